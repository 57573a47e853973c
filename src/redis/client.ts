/**
 * The one way to Redis. Every call has a deadline; a lost reply is answered by sending the same script again, which the
 * nonce in each script makes harmless; what cannot be answered becomes a `store-unavailable` problem.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { limits } from '../limits.ts'
import type { Floor, RedisClock } from './clock.ts'
import type { StoreAddress } from './connection.ts'
import { classifyStoreError, NotSentError, type StoreReason, type StoreTrouble } from './errors.ts'
import type { Commitment, Durability } from './group-commit.ts'
import { durabilityNotReached, storeUnavailable } from './refusals.ts'
import {
  type AnyScript,
  createScriptTexts,
  type Preludes,
  type RawReply,
  readReply,
  type ScriptDefinition,
} from './scripts.ts'
import type { StoreServer } from './server.ts'
import { openServers, placeOf, type Servers, type ServersOptions } from './servers.ts'
import type { Witness } from './witness.ts'
import { storeAcknowledge } from './witness-scripts.ts'

/** What happens at the store, for metrics and the log; must not throw. */
export type StoreObserver = {
  answered: (script: string, seconds: number) => void
  trouble: (reason: StoreReason) => void
  connection: (event: 'ready' | 'close' | 'error', detail: string) => void
}

export type Store = ReturnType<typeof connectStore>

/** An argument of a script; a function is asked at each try, of the server that the try goes to. */
export type ScriptArgument = string | number | ((witness: Witness) => string | number)
export type ScriptArguments<Argument extends string> = Record<Argument, ScriptArgument>

/** What is watched about the servers themselves. */
export type StoreOptions = Pick<ServersOptions, 'witness' | 'stepMs'>

/** Reasons that another attempt a moment later may overcome. */
const passing: ReadonlySet<StoreReason> = new Set(['failing_over', 'resharding', 'busy', 'unavailable', 'loading'])

type Link = {
  servers: Servers
  observer: StoreObserver
  lastAnswerMs: number
  /** Why no script is sent at all, where the server is not one that may run them. */
  scriptsRefused: StoreReason | undefined
}

/** One call on its way: when it began, how often it was tried, where it goes next. */
type Run = {
  startMs: number
  /** Of the last try. */
  sentMs: number
  tries: number
  outcomeUnknown: boolean
  key: string | undefined
  server: StoreServer | undefined
  /** It is meant for `server` and no other. */
  pinned: boolean
  /** The slot is on its way to `server`. */
  asking: boolean
}

function newRun(key?: string): Run {
  const startMs = performance.now()
  const way = { key, server: undefined, pinned: false, asking: false }
  return { startMs, sentMs: startMs, tries: 0, outcomeUnknown: false, ...way }
}

/** What to do after a failed try: pause and send again, or give up for a reason. */
type Verdict = { again: true; pauseMs: number } | { again: false; reason: StoreReason }
type Trouble = Exclude<StoreTrouble, { kind: 'bug' }>

/** A server that has refused us for a reason and cannot be reached now is still in that trouble. */
function reasonOf(link: Link, trouble: Trouble, { server }: Run): StoreReason {
  if (trouble.kind === 'unknown') return 'unavailable'
  if (trouble.reason !== 'unavailable') return trouble.reason
  const othersAnswer = link.servers.all().some((other) => other !== server && other.redis.status === 'ready')
  return server?.refusal ?? (othersAnswer ? 'failing_over' : 'unavailable')
}

function judge(link: Link, trouble: Trouble, run: Run): Verdict {
  const unknown = trouble.kind === 'unknown'
  const reason = reasonOf(link, trouble, run)
  const pauseMs = Math.min(limits.storeRetryPauseMs, 5 * 2 ** run.tries)
  const patienceMs = unknown || run.outcomeUnknown ? limits.storeDeadlineMs : limits.storeRetryWhileAwayMs
  const spentMs = performance.now() - run.startMs + pauseMs + (unknown ? limits.storeCommandTimeoutMs : 0)
  if (spentMs <= patienceMs && passing.has(reason)) return { again: true, pauseMs }
  return { again: false, reason: run.outcomeUnknown ? 'outcome_unknown' : reason }
}

/** The server of the next try. NotSentError where a Cluster's table has none. */
function serverOf(link: Link, run: Run): StoreServer {
  if ((run.pinned || run.asking) && run.server) return run.server
  const server = run.key === undefined ? link.servers.all()[0] : link.servers.of(run.key)
  if (server) return server
  link.servers.doubt()
  throw new NotSentError('no server is known for this slot')
}

/** Learns from a failed try where the next one goes. */
function redirect(link: Link, error: unknown, run: Run): void {
  const message = error instanceof Error ? error.message : ''
  const { server } = run
  run.asking = false
  if (!server) return
  if (message.startsWith('MOVED ')) link.servers.redirected(message, server)
  else if (message.startsWith('ASK ')) {
    run.server = link.servers.redirected(message, server)
    run.asking = run.server !== undefined
  } else link.servers.doubt()
}

function giveUp({ observer }: Link, reason: StoreReason, detail?: string): never {
  observer.trouble(reason)
  throw storeUnavailable(reason, detail)
}

const clockUnsure = "The clock of Redis has stepped: whether this effect's lease is over cannot be told yet."

/** Made once: an error for each of thousands that wait costs more than the wait. */
const notServing = new NotSentError('the server is not connected, or silent')

/** Sends until it is answered, the deadline is over, or the trouble will not pass. */
async function attempt<Answer>(
  link: Link,
  run: Run,
  send: (server: StoreServer) => Promise<Answer>,
  writes: boolean,
): Promise<Answer> {
  for (;;) {
    try {
      run.server = serverOf(link, run)
      if (!run.server.serving()) throw notServing
      run.sentMs = run.tries === 0 ? run.startMs : performance.now()
      const answer = await send(run.server)
      run.server.refusal = undefined
      link.lastAnswerMs = performance.now()
      return answer
    } catch (error) {
      const trouble = classifyStoreError(error)
      if (trouble.kind === 'bug') throw error
      run.tries += 1
      run.outcomeUnknown ||= trouble.kind === 'unknown' && writes
      const verdict = judge(link, trouble, run)
      if (run.server && trouble.kind === 'not_executed' && trouble.reason !== 'unavailable') {
        run.server.refusal = trouble.reason
      }
      if (!verdict.again) giveUp(link, verdict.reason)
      redirect(link, error, run)
      await (error === notServing && run.server ? run.server.moment() : sleep(verdict.pauseMs))
    }
  }
}

function timeUs(reply: unknown): number {
  const [seconds, microseconds] = reply as [string, string]
  return Number(seconds) * 1_000_000 + Number(microseconds)
}

/** Sends one plain command that changes nothing: to the server of `key`, or to any. */
function call(link: Link, key: string | undefined, name: string, ...args: string[]): Promise<unknown> {
  return attempt(link, newRun(key), ({ redis }) => redis.call(name, ...args), false)
}

const mayWrite = ({ flags }: AnyScript): boolean => !flags.includes('no-writes')

/** A script with its arguments, to be sent as often as needed. */
type Draft = {
  definition: AnyScript
  keys: readonly string[]
  args: ScriptArguments<string>
  durability: Durability
  /** Whether the durability was reached by the last try. */
  reached: boolean
}

/** The arguments as they are now, at the server that they go to. */
const valuesOf = ({ definition, args }: Draft, witness: Witness): (string | number)[] =>
  definition.args.map((name) => {
    const value = args[name] as ScriptArgument
    return typeof value === 'function' ? value(witness) : value
  })

/** Nothing is written over a connection before the server at its end was looked at. */
function sendPlainly(draft: Draft, server: StoreServer): Promise<unknown> {
  const { witness, redis } = server
  const { definition, keys } = draft
  const send = () => server.send({ definition, keys, values: valuesOf(draft, witness) })
  return mayWrite(definition) && !witness.admits(redis) ? witness.admit(redis).then(send) : send()
}

async function sendDurably(draft: Draft, server: StoreServer, durability: Commitment): Promise<unknown> {
  const { definition, keys } = draft
  const call = {
    ...{ definition, keys },
    /** Read when the script is sent: until then the connection may have changed. */
    get values() {
      return valuesOf(draft, server.witness)
    },
  }
  const { reply, reached } = await server.groupCommit().commit(call, durability)
  draft.reached = reached
  return reply
}

/** To a server that the slot is on its way to; what may have been lost is known of the one that it comes from. */
function sendAsking(draft: Draft, server: StoreServer, from: StoreServer): Promise<unknown> {
  const { definition, keys, durability } = draft
  draft.reached = durability === 'primary'
  return server.sendAsking({ definition, keys, values: valuesOf(draft, from.witness) })
}

/** Takes note of Redis's time in a reply; the others are told of a step at once. */
function noteClock({ clock, witness, redis }: StoreServer, [, nowUs]: RawReply, sentMs: number): void {
  clock.saw(nowUs, sentMs)
  if (clock.jump().us !== 0) witness.look(redis).catch(() => undefined)
}

/**
 * Runs a script; `reached`: whether its durability was. `keys` are in the order of the definition, `args` by name; absent text
 * is `''`. A script that cannot tell whether a lease is over is sent again with what the clock was seen to be.
 */
async function run<Key extends string, Argument extends string, Reply>(
  link: Link,
  definition: ScriptDefinition<Key, Argument, Reply>,
  keys: readonly string[],
  args: ScriptArguments<Argument>,
  durability: Durability,
): Promise<{ reply: Reply; reached: boolean }> {
  if (link.scriptsRefused) giveUp(link, link.scriptsRefused)
  const draft: Draft = { definition, keys, args, durability, reached: true }
  const way = newRun(keys[0])
  const send = (server: StoreServer): Promise<unknown> => {
    if (way.asking) return sendAsking(draft, server, link.servers.of(keys[0] ?? '') ?? server)
    return durability === 'primary' ? sendPlainly(draft, server) : sendDurably(draft, server, durability)
  }
  for (let tries = 1; ; tries++) {
    const raw = readReply(await attempt(link, way, send, mayWrite(definition)))
    noteClock(way.server as StoreServer, raw, way.sentMs)
    if (raw[0] !== 'clock_unsure') {
      link.observer.answered(definition.name, (link.lastAnswerMs - way.startMs) / 1000)
      return { reply: definition.decode(raw), reached: draft.reached }
    }
    if (tries === limits.storeClockTriesMax) giveUp(link, 'busy', clockUnsure)
  }
}

/** The clock of the server of `key` (absent: of any), if this process has seen it. */
function knownClock({ servers }: Link, key?: string): RedisClock | undefined {
  const clock = (key === undefined ? servers.all()[0] : servers.of(key))?.clock
  return clock?.known() ? clock : undefined
}

/** As `knownClock`; asked for if this process has not seen it yet. */
async function clockOf(link: Link, key?: string): Promise<RedisClock> {
  const known = knownClock(link, key)
  if (known) return known
  const way = newRun(key)
  const reply = await attempt(link, way, ({ redis }) => redis.call('TIME'), false)
  const asked = way.server as StoreServer
  asked.clock.saw(timeUs(reply), way.sentMs)
  return asked.clock
}

/** Sends one plain command that changes nothing to every server that takes writes. */
async function eachPrimary(link: Link, name: string, ...args: string[]): Promise<{ node: string; reply: unknown }[]> {
  // A Cluster that has told nothing yet: as for any other call, wait a moment.
  if (link.servers.all().length === 0) await call(link, undefined, 'TIME')
  const ask = (server: StoreServer) =>
    attempt(link, { ...newRun(), server, pinned: true }, ({ redis }) => redis.call(name, ...args), false)
  return Promise.all(link.servers.all().map(async (server) => ({ node: server.node, reply: await ask(server) })))
}

/** What is known of the servers themselves, and whether they are still the same. */
function watchOf(link: Link) {
  const { servers } = link
  let timer: NodeJS.Timeout | undefined
  return {
    /** What is known of the server of `key`; undefined while a Cluster's table does not say. */
    witness: (key: string): Witness | undefined => servers.of(key)?.witness,
    /** What is known of each server that takes writes. */
    witnesses: (): Witness[] => servers.all().map(({ witness }) => witness),
    /** A person has looked at a store that came back empty. */
    async acknowledge(): Promise<void> {
      for (const { witness, redis } of servers.all()) {
        await run(link, storeAcknowledge, [witness.key()], {}, 'primary')
        // At once here; the other processes look within a second. The first may be one that had begun before.
        for (const _ of ['begun', 'after']) await witness.look(redis).catch(() => undefined)
      }
    },
    /** Looks at each server again and again, until it is closed. */
    watch(): void {
      timer = setInterval(() => lookAtAll(servers), limits.witnessIntervalMs)
    },
    close(): void {
      clearInterval(timer)
      servers.close()
    },
  }
}

function lookAtAll(servers: Servers): void {
  for (const { redis, witness } of servers.all()) {
    // Who cannot be asked now is asked again, and whoever needs an answer is told what is wrong.
    if (redis.status === 'ready') witness.look(redis).catch(() => undefined)
  }
}

/**
 * Connects and keeps connecting for ever. `preludes` holds the clock that scripts read. Errors of `run` and `call`:
 * Problem `store-unavailable` with `reason`, or `durability-not-reached`; anything else is our own mistake.
 */
export function connectStore(
  address: StoreAddress,
  preludes: Preludes,
  observer: StoreObserver,
  options: StoreOptions,
) {
  const floor: Floor = { us: 0 }
  const link: Link = {
    servers: openServers(address, { ...options, texts: createScriptTexts(preludes), floor, events: observer }),
    ...{ observer, scriptsRefused: undefined },
    lastAnswerMs: performance.now(),
  }
  const { servers } = link
  return {
    run: async <Key extends string, Argument extends string, Reply>(
      definition: ScriptDefinition<Key, Argument, Reply>,
      keys: readonly string[],
      args: ScriptArguments<Argument>,
      durability: Durability = 'primary',
    ): Promise<Reply> => {
      const { reply, reached } = await run(link, definition, keys, args, durability)
      if (!reached) throw durabilityNotReached(durability)
      return reply
    },
    /** As `run`; tells what the script answered even where the durability was not reached. */
    runTelling: <Key extends string, Argument extends string, Reply>(
      definition: ScriptDefinition<Key, Argument, Reply>,
      keys: readonly string[],
      args: ScriptArguments<Argument>,
      durability: Durability,
    ): Promise<{ reply: Reply; reached: boolean }> => run(link, definition, keys, args, durability),
    /** A plain read at any server. */
    call: (name: string, ...args: string[]) => call(link, undefined, name, ...args),
    /** A plain read of one key. */
    read: (name: string, key: string, ...args: string[]) => call(link, key, name, key, ...args),
    eachPrimary: (name: string, ...args: string[]) => eachPrimary(link, name, ...args),
    clock: (key?: string): Promise<RedisClock> => clockOf(link, key),
    /** As `clock`, without waiting; undefined where it must be asked for. */
    knownClock: (key?: string): RedisClock | undefined => knownClock(link, key),
    /** Seconds since Redis last answered anything. */
    silentSeconds: () => (performance.now() - link.lastAnswerMs) / 1000,
    connected: () => servers.all().some(({ redis }) => redis.status === 'ready'),
    /** Whether keys of different hash tags may lie on different servers. */
    clustered: servers.clustered,
    /** In a Cluster the servers that take writes, as far as they are known; else none, since the address says all. */
    places: () => (servers.clustered ? servers.all().map(({ node }) => placeOf(node)) : []),
    /** From now on every script is refused with this reason; undefined lifts it. */
    refuseScripts: (reason: StoreReason | undefined) => void (link.scriptsRefused = reason),
    ...watchOf(link),
  }
}
