/**
 * The one way to Redis. Every call has a deadline; a lost reply is answered by sending the same script again, which the
 * nonce in each script makes harmless; what cannot be answered becomes a `store-unavailable` problem.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis, type RedisOptions } from 'ioredis'
import { limits } from '../limits.ts'
import { Problem } from '../problems.ts'
import { classifyStoreError, type StoreReason, type StoreTrouble } from './errors.ts'
import { type Preludes, type RawReply, type ScriptDefinition, scriptText } from './scripts.ts'

/** Where Redis is and how to get in; `url` is `redis://`, `rediss://` or `unix://`. */
export type StoreAddress = {
  url: string
  username: string | null
  password: string | null
  tls: { ca_file: string | null; cert_file: string | null; key_file: string | null; servername: string | null } | null
}

/** What happens at the store, for metrics and the log; must not throw. */
export type StoreObserver = {
  answered: (script: string, seconds: number) => void
  trouble: (reason: StoreReason) => void
  connection: (event: 'ready' | 'close' | 'error', detail: string) => void
}

export type Store = ReturnType<typeof connectStore>

/** Detail texts of `store-unavailable`, by reason. Sources: Redis 7 error replies. */
const details: Record<StoreReason, string> = {
  loading: 'Redis is loading its data.',
  failing_over: 'Redis is read-only or without a primary.',
  resharding: 'The slot of this effect is moving.',
  busy: 'Redis is busy with a script.',
  out_of_memory: 'Redis has no memory left.',
  not_persisting: 'Redis cannot persist and refuses writes.',
  not_replicated: 'Redis has too few replicas and refuses writes.',
  misconfigured: 'Redis refuses the user name, the password or the command.',
  unavailable: 'Redis cannot be reached.',
  outcome_unknown: 'Redis did not answer: send the same claim_id again; do not execute.',
}

/** Reasons that another attempt a moment later may overcome. */
const passing: ReadonlySet<StoreReason> = new Set(['failing_over', 'resharding', 'busy', 'unavailable', 'loading'])

export function storeUnavailable(reason: StoreReason): Problem {
  return new Problem('store-unavailable', details[reason], { reason, retry_after_seconds: 1 })
}

function redisOptions(address: StoreAddress, connectionName: string) {
  const read = (file: string | null) => (file === null ? undefined : readFileSync(file))
  const tls = address.tls
  return {
    connectionName,
    // A command is never kept back, and never sent again without our knowing: each was measured to count one INCR twice.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // The ready check would hide LOADING behind "not connected".
    enableReadyCheck: false,
    commandTimeout: limits.storeCommandTimeoutMs,
    socketTimeout: limits.storeSocketTimeoutMs,
    connectTimeout: limits.storeConnectTimeoutMs,
    retryStrategy: (times: number) =>
      Math.min(limits.storeReconnectDelayMaxMs, 20 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2),
    // A primary that became a replica: connect anew, and do not send the command again by itself.
    reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 1 : false),
    ...(address.username === null ? {} : { username: address.username }),
    ...(address.password === null ? {} : { password: address.password }),
    ...(tls === null
      ? {}
      : {
          tls: {
            ca: read(tls.ca_file),
            cert: read(tls.cert_file),
            key: read(tls.key_file),
            ...(tls.servername === null ? {} : { servername: tls.servername }),
          },
        }),
  } satisfies RedisOptions
}

/** A connection of its own; `changes` are options that differ from those of the store. */
export function connect(
  address: StoreAddress,
  connectionName: string,
  changes: Omit<RedisOptions, 'replyMapping'> = {},
): Redis {
  const options = { ...redisOptions(address, connectionName), ...changes }
  if (!address.url.startsWith('unix://')) return new Redis(address.url, options)
  return new Redis({ ...options, path: address.url.slice('unix://'.length) })
}

type RedisClock = ReturnType<typeof createClock>

/** Redis's clock as this process knows it, from the last reply; never ahead of the true one by more than a clock step. */
function createClock() {
  let lastUs = 0
  let readAtMs = 0
  let highestUs = 0
  return {
    saw(nowUs: number): void {
      lastUs = nowUs
      readAtMs = performance.now()
      highestUs = Math.max(highestUs, nowUs)
    },
    known: () => lastUs > 0,
    /** Microseconds; at most the true time, since the way back of the reply is left out. */
    nowUs: () => lastUs + Math.floor((performance.now() - readAtMs) * 1000),
    /** The highest Redis time that this process has seen, microseconds: tokens stay above it. */
    floorUs: () => highestUs,
  }
}

type Command = (...args: (string | number)[]) => Promise<unknown>

/** One connection and what is known of it. */
type Link = {
  redis: Redis
  clock: RedisClock
  observer: StoreObserver
  preludes: Preludes
  commands: Map<string, Command>
  lastAnswerMs: number
  /** Why the last connection was refused, where the server said so. */
  refusal: StoreReason | undefined
  /** Why no script is sent at all, where the server is not one that may run them. */
  scriptsRefused: StoreReason | undefined
}

function watch(link: Link): void {
  const { redis, observer } = link
  redis.on('ready', () => {
    link.refusal = undefined
    observer.connection('ready', '')
    call(link, 'TIME').catch(() => undefined)
  })
  redis.on('close', () => observer.connection('close', ''))
  redis.on('error', (error: Error) => {
    const trouble = classifyStoreError(error)
    if (trouble.kind === 'not_executed' && trouble.reason !== 'unavailable') link.refusal = trouble.reason
    observer.connection('error', error.message)
  })
}

function commandOf(link: Link, definition: ScriptDefinition<string, string, unknown>): Command {
  const known = link.commands.get(definition.name)
  if (known) return known
  link.redis.defineCommand(definition.name, { lua: scriptText(definition, link.preludes) })
  const named = link.redis as unknown as Record<string, Command>
  const defined = named[definition.name]?.bind(link.redis)
  assert(defined, 'a command that was just defined exists')
  link.commands.set(definition.name, defined)
  return defined
}

/** What to do after a failed try: pause and send again, or give up for a reason. */
type Verdict = { again: true; pauseMs: number } | { again: false; reason: StoreReason }

function judge(link: Link, trouble: Exclude<StoreTrouble, { kind: 'bug' }>, run: Run): Verdict {
  const unknown = trouble.kind === 'unknown'
  const reason = unknown
    ? 'unavailable'
    : trouble.reason === 'unavailable'
      ? (link.refusal ?? 'unavailable')
      : trouble.reason
  const pauseMs = Math.min(limits.storeRetryPauseMs, 5 * 2 ** run.tries)
  const patienceMs = unknown || run.outcomeUnknown ? limits.storeDeadlineMs : limits.storeRetryWhileAwayMs
  const spentMs = performance.now() - run.startMs + pauseMs + (unknown ? limits.storeCommandTimeoutMs : 0)
  if (spentMs <= patienceMs && passing.has(reason)) return { again: true, pauseMs }
  return { again: false, reason: run.outcomeUnknown ? 'outcome_unknown' : reason }
}

type Run = { startMs: number; tries: number; outcomeUnknown: boolean }

/** Sends until it is answered, the deadline is over, or the trouble will not pass. */
async function attempt(link: Link, send: () => Promise<unknown>, writes: boolean): Promise<unknown> {
  const run: Run = { startMs: performance.now(), tries: 0, outcomeUnknown: false }
  for (;;) {
    try {
      return await send()
    } catch (error) {
      const trouble = classifyStoreError(error)
      if (trouble.kind === 'bug') throw error
      run.tries += 1
      run.outcomeUnknown ||= trouble.kind === 'unknown' && writes
      const verdict = judge(link, trouble, run)
      if (!verdict.again) {
        link.observer.trouble(verdict.reason)
        throw storeUnavailable(verdict.reason)
      }
      await sleep(verdict.pauseMs)
    }
  }
}

function timeUs(reply: unknown): number {
  const [seconds, microseconds] = reply as [string, string]
  return Number(seconds) * 1_000_000 + Number(microseconds)
}

/** Sends one plain command that changes nothing, such as INFO. */
async function call(link: Link, name: string, ...args: string[]): Promise<unknown> {
  const reply = await attempt(link, () => link.redis.call(name, ...args), false)
  if (name === 'TIME') link.clock.saw(timeUs(reply))
  link.lastAnswerMs = performance.now()
  return reply
}

/** Runs a script. `keys` are in the order of the definition, `args` by name; absent text is `''`. */
async function run<Key extends string, Argument extends string, Reply>(
  link: Link,
  definition: ScriptDefinition<Key, Argument, Reply>,
  keys: readonly string[],
  args: Record<Argument, string | number>,
): Promise<Reply> {
  if (link.scriptsRefused) {
    link.observer.trouble(link.scriptsRefused)
    throw storeUnavailable(link.scriptsRefused)
  }
  const command = commandOf(link, definition)
  const values = definition.args.map((name) => args[name])
  const startMs = performance.now()
  const send = () => command(keys.length, ...keys, ...values)
  const reply = (await attempt(link, send, !definition.flags.includes('no-writes'))) as RawReply
  link.clock.saw(reply[1])
  link.lastAnswerMs = performance.now()
  link.observer.answered(definition.name, (link.lastAnswerMs - startMs) / 1000)
  return definition.decode(reply)
}

/**
 * Connects and keeps connecting for ever. `preludes` holds the clock that scripts read. Errors of `run` and `call`:
 * Problem `store-unavailable` with `reason`; anything else is our own mistake.
 */
export function connectStore(address: StoreAddress, preludes: Preludes, observer: StoreObserver) {
  const link: Link = {
    redis: connect(address, 'effectonce'),
    clock: createClock(),
    observer,
    preludes,
    commands: new Map(),
    lastAnswerMs: performance.now(),
    refusal: undefined,
    scriptsRefused: undefined,
  }
  watch(link)
  return {
    run: <Key extends string, Argument extends string, Reply>(
      definition: ScriptDefinition<Key, Argument, Reply>,
      keys: readonly string[],
      args: Record<Argument, string | number>,
    ): Promise<Reply> => run(link, definition, keys, args),
    call: (name: string, ...args: string[]) => call(link, name, ...args),
    /** Redis's clock, asked for if this process has not seen it yet. */
    async clock(): Promise<RedisClock> {
      if (!link.clock.known()) await call(link, 'TIME')
      return link.clock
    },
    /** Seconds since Redis last answered anything. */
    silentSeconds: () => (performance.now() - link.lastAnswerMs) / 1000,
    connected: () => link.redis.status === 'ready',
    /** From now on every script is refused with this reason; undefined lifts it. */
    refuseScripts: (reason: StoreReason | undefined) => void (link.scriptsRefused = reason),
    close: () => link.redis.disconnect(),
  }
}
