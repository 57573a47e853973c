/**
 * The one way to Redis. Every call has a deadline; a lost reply is answered by sending the same script again, which the
 * nonce in each script makes harmless; what cannot be answered becomes a `store-unavailable` problem.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis, type RedisOptions } from 'ioredis'
import { limits } from '../limits.ts'
import { Problem } from '../problems.ts'
import { classifyStoreError, type StoreReason } from './errors.ts'
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

function connect(address: StoreAddress, connectionName: string): Redis {
  const options = redisOptions(address, connectionName)
  if (!address.url.startsWith('unix://')) return new Redis(address.url, options)
  return new Redis({ ...options, path: address.url.slice('unix://'.length) })
}

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

/**
 * Connects and keeps connecting for ever. `preludes` holds the clock that scripts read. Errors of `run` and `call`:
 * Problem `store-unavailable` with `reason`; anything else is our own mistake.
 */
export function connectStore(address: StoreAddress, preludes: Preludes, observer: StoreObserver) {
  const redis = connect(address, 'effectonce')
  const clock = createClock()
  const commands = new Map<string, Command>()
  let lastAnswerMs = performance.now()
  let refusedAtConnect: StoreReason | undefined

  redis.on('ready', () => {
    refusedAtConnect = undefined
    observer.connection('ready', '')
    call('TIME').catch(() => undefined)
  })
  redis.on('close', () => observer.connection('close', ''))
  redis.on('error', (error: Error) => {
    const trouble = classifyStoreError(error)
    if (trouble.kind === 'not_executed' && trouble.reason !== 'unavailable') refusedAtConnect = trouble.reason
    observer.connection('error', error.message)
  })

  function command(definition: ScriptDefinition<string, string, unknown>): Command {
    const known = commands.get(definition.name)
    if (known) return known
    redis.defineCommand(definition.name, { lua: scriptText(definition, preludes) })
    const defined = (redis as unknown as Record<string, Command>)[definition.name]!.bind(redis)
    commands.set(definition.name, defined)
    return defined
  }

  function give(reason: StoreReason): Problem {
    observer.trouble(reason)
    return storeUnavailable(reason)
  }

  /** Sends until it is answered, the deadline is over, or the trouble will not pass. */
  async function attempt(send: () => Promise<unknown>, writes: boolean): Promise<unknown> {
    const startMs = performance.now()
    let outcomeUnknown = false
    for (let tries = 1; ; tries++) {
      try {
        return await send()
      } catch (error) {
        const trouble = classifyStoreError(error)
        if (trouble.kind === 'bug') throw error
        if (trouble.kind === 'unknown') outcomeUnknown = writes
        const reason = trouble.kind === 'unknown' ? 'unavailable' : (refusedAtConnect ?? trouble.reason)
        const elapsedMs = performance.now() - startMs
        const patienceMs =
          trouble.kind === 'unknown' || outcomeUnknown ? limits.storeDeadlineMs : limits.storeRetryWhileAwayMs
        const pauseMs = Math.min(100, 5 * 2 ** tries)
        const spentMs = elapsedMs + pauseMs + (trouble.kind === 'unknown' ? limits.storeCommandTimeoutMs : 0)
        if (spentMs > patienceMs || !passing.has(reason)) throw give(outcomeUnknown ? 'outcome_unknown' : reason)
        await sleep(pauseMs)
      }
    }
  }

  /** Runs a script. `keys` are in the order of the definition, `args` by name; absent text is `''`. */
  async function run<Key extends string, Argument extends string, Reply>(
    definition: ScriptDefinition<Key, Argument, Reply>,
    keys: readonly string[],
    args: Record<Argument, string | number>,
  ): Promise<Reply> {
    const script = command(definition)
    const values = definition.args.map((name) => args[name])
    const startMs = performance.now()
    const reply = (await attempt(
      () => script(keys.length, ...keys, ...values),
      !definition.flags.includes('no-writes'),
    )) as RawReply
    clock.saw(reply[1])
    lastAnswerMs = performance.now()
    observer.answered(definition.name, (lastAnswerMs - startMs) / 1000)
    return definition.decode(reply)
  }

  /** Sends one plain command that changes nothing, such as INFO. */
  async function call(name: string, ...args: string[]): Promise<unknown> {
    const reply = await attempt(() => redis.call(name, ...args), false)
    if (name === 'TIME') clock.saw(timeUs(reply))
    lastAnswerMs = performance.now()
    return reply
  }

  /** Redis's clock, asked for if this process has not seen it yet. */
  async function readyClock(): Promise<ReturnType<typeof createClock>> {
    if (!clock.known()) await call('TIME')
    return clock
  }

  return {
    run,
    call,
    clock: readyClock,
    /** Seconds since Redis last answered anything. */
    silentSeconds: () => (performance.now() - lastAnswerMs) / 1000,
    connected: () => redis.status === 'ready',
    close: () => redis.disconnect(),
  }
}

function timeUs(reply: unknown): number {
  const [seconds, microseconds] = reply as [string, string]
  return Number(seconds) * 1_000_000 + Number(microseconds)
}
