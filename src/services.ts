/** Every concept, built from the configuration and a connection: the one list of what a handler may receive. */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { createAudit } from './audit/audit.ts'
import { createAuditFiles } from './audit/files.ts'
import { createAuth } from './auth.ts'
import { type Breakers, createBreakers } from './breakers/breakers.ts'
import {
  builtInEffectTypes,
  type Config,
  effectTypeConfig,
  jobTypeConfig,
  maxAttempts,
  usesPrivateRedis,
} from './config.ts'
import type { EffectsDependencies } from './effects/context.ts'
import { createEffects, type Effects } from './effects/effects.ts'
import { createJobs } from './effects/jobs.ts'
import { createSweep } from './effects/sweep.ts'
import { createWaiting } from './effects/waiting.ts'
import { createEvents, type Events, logEvents } from './events/events.ts'
import { createEventFeed } from './events/feed.ts'
import { tellOfStore } from './events/store.ts'
import { createEventWriter } from './events/writer.ts'
import { createClassifier } from './failures/classify.ts'
import { keptError } from './failures/kept.ts'
import { createCounts } from './observability/counts.ts'
import { createHealth } from './observability/health.ts'
import { createQuestions, inTime } from './observability/in-time.ts'
import { createMetrics, type Metrics } from './observability/metrics.ts'
import { createStoreState } from './observability/store-state.ts'
import { createSystem } from './observability/system.ts'
import { invalidRequest, Problem } from './problems.ts'
import { limits } from './limits.ts'
import { alone, type Fellows } from './processes/fellows.ts'
import { connectStore, type StoreObserver } from './redis/client.ts'
import type { StoreAddress } from './redis/connection.ts'
import { createInspector, type InspectionRules } from './redis/inspect.ts'
import { createKeys, wakeChannel } from './redis/keys.ts'
import { createMemory } from './redis/memory.ts'
import { loadPreludes, type Preludes } from './redis/scripts.ts'
import { createStreamReader } from './redis/stream-reader.ts'
import { createWakeUps } from './redis/wake-ups.ts'
import { decideRetry } from './retries/decide.ts'
import type { DecisionsDependencies } from './retries/decisions.ts'
import { createRetryMetrics, type RetryMetrics } from './retries/metrics.ts'
import { createRetries } from './retries/retries.ts'

export type ServiceOptions = {
  config: Config
  /** Where Redis is: of the configuration, or of the private server. */
  address: StoreAddress
  log: Logger
  /** The processes behind the same port; default: this one is alone. */
  fellows?: Fellows
  /** Tests replace the clock that scripts read. */
  preludes?: Preludes
  /** A jump of Redis's clock by more is a step, default 500 ms; Infinity where tests let time pass by moving it. */
  clockStepMs?: number
}

/** Effect types that are known by name: built in or configured. */
const knownTypes = (config: Config): string[] => [
  ...new Set([...builtInEffectTypes, ...Object.keys(config.effects.types)]),
]

/** Namespaces that have a key, and `default`. */
const namespacesOf = (config: Config): string[] => [
  ...new Set(['default', ...config.auth.keys.map(({ namespace }) => namespace)]),
]

function typePolicy(config: Config): EffectsDependencies['typePolicy'] {
  const known = new Set(knownTypes(config))
  return (type, pointer = '/type') => {
    if (!config.effects.allow_unknown_types && !known.has(type)) {
      throw invalidRequest([{ pointer, message: 'is not a configured effect type' }])
    }
    return effectTypeConfig(config, type)
  }
}

/** `require_safe` looks at the eviction policy in any case. */
const inspectionRules = ({ redis, retry, effects }: Config): InspectionRules => ({
  checkEviction: retry.redis.check_eviction_policy || redis.require_safe,
  commitments: [effects.defaults, ...Object.values(effects.types)].flatMap(({ durability = 'primary' }) =>
    durability === 'primary' ? [] : [durability],
  ),
  memoryBudgetBytes: retry.redis.memory_budget_mb === null ? null : retry.redis.memory_budget_mb * 1024 * 1024,
})

/** Another server may answer after a reconnect: it is checked again. */
function storeObserver(metrics: Metrics, events: Events, log: Logger, checkAgain: () => void): StoreObserver {
  const told = tellOfStore(events, () => performance.now())
  return {
    answered(script, seconds) {
      metrics.storeAnswered(script, seconds)
      told.answered()
    },
    trouble(reason) {
      metrics.storeTrouble(reason)
      told.trouble(reason)
    },
    connection(event, detail) {
      log[event === 'ready' ? 'info' : 'warn']({ event, detail }, 'redis connection')
      if (event === 'ready') checkAgain()
    },
  }
}

/** What every concept is built on. */
function createBase(options: ServiceOptions) {
  const { config, address, log, fellows = alone, preludes = loadPreludes(), clockStepMs = limits.clockStepMs } = options
  const keys = createKeys(config.retry.redis.namespace)
  const metrics = createMetrics(knownTypes(config), Object.keys(config.retry.job_types), fellows)
  const events = createEvents(log)
  const witness = {
    process: randomUUID(),
    graceMs: config.redis.failover_grace_seconds * 1000,
    told: events.emit,
    keyOf: keys.witness,
  }
  const observer = storeObserver(metrics, events, log, () => {
    inspector.inBackground()
    wakeUps.renew()
  })
  const store = connectStore(address, preludes, observer, { witness, stepMs: clockStepMs })
  const inspector = createInspector(store, inspectionRules(config), log)
  const memory = createMemory(store, events, config.retry.redis.memory_budget_mb, log)
  const classifier = createClassifier(config.failures)
  const waiting = createWaiting(() => wakeUps.open())
  const wakeUps = createWakeUps({
    ...{ address, places: store.places, channel: wakeChannel(config.retry.redis.namespace), log },
    ...{ heard: waiting.heard, stood: waiting.checkAll },
  })
  return {
    ...{ config, address, log, fellows, metrics, events, keys, store, inspector, memory, classifier, waiting, wakeUps },
    namespaces: namespacesOf(config),
    classify: (error: unknown, nowMs: number) => classifier.classify(error, { nowMs }),
    newId: randomUUID,
    /** The process's own clock, for what is not kept: file names, and what an error text says of the time. */
    nowMs: Date.now,
  }
}

type Base = ReturnType<typeof createBase>

/** What is written down about what happened: the audit, the event stream, the log. */
function createRecords({ config, address, log, store, keys, events, metrics, namespaces, nowMs }: Base) {
  const lines = { folder: config.retry.audit_log_path, nowMs, lost: metrics.auditLinesLost }
  const auditFiles = createAuditFiles({ ...lines, log })
  const audit = createAudit({
    ...{ store, keys, log, namespaces, files: auditFiles },
    entriesMax: config.audit.entries_max,
  })
  const eventWriter = createEventWriter({ store, keys, events, namespaces, log, lost: metrics.eventsLost })
  const eventFeed = createEventFeed({ store, keys, log, tail: createStreamReader(address, store) })
  logEvents(events, log)
  return {
    ...{ audit, auditFiles, eventWriter, eventFeed },
    start: () => audit.start(),
    /** Writes what still waits. */
    async stop(): Promise<void> {
      audit.stop()
      eventFeed.close()
      await Promise.all([eventWriter.stop(), auditFiles.settled()])
    },
  }
}

type Records = ReturnType<typeof createRecords>

const breakersOf = (base: Base, { audit }: Records): Breakers =>
  createBreakers({ ...base, audit, settings: (jobType) => jobTypeConfig(base.config, jobType).circuit_breaker })

const retryMetricsOf = (base: Base): RetryMetrics => {
  const { enabled, time_window_minutes: windowMinutes } = base.config.retry.metrics
  const budget = (jobType: string) => jobTypeConfig(base.config, jobType).budget
  return createRetryMetrics({ ...base, settings: { enabled, windowMinutes, budget }, observe: base.metrics })
}

function effectsOf(base: Base, { audit, auditFiles }: Records, breakers: Breakers, retryMetrics: RetryMetrics) {
  const { config, log, metrics } = base
  const { recordLater: record, budgetSpent } = retryMetrics
  return createEffects({
    ...{ ...base, audit },
    typePolicy: typePolicy(config),
    defaults: (type) => effectTypeConfig(config, type),
    durability: (type) => effectTypeConfig(config, type).durability,
    maxAttempts: (type, jobType) => maxAttempts(config, type, jobType),
    maxResultBytes: config.effects.max_result_bytes,
    memory: base.memory.read,
    keepError: keptError,
    advise: (failure) =>
      decideRetry({
        ...failure,
        budgetExhausted: failure.budgetSpent,
        retryAfterSeconds: failure.classification.retry_after_seconds,
        backoff: jobTypeConfig(config, failure.jobType),
        random: Math.random(),
      }),
    decided: (line) => auditFiles.write('retry_decision', line),
    jobs: createJobs({ log, gate: breakers.gate, record, budgetSpent }),
    observe: { claim: metrics.claim },
  })
}

/** What a retry decision asks of the breakers. */
const breakerOfDecisions = (breakers: Breakers): DecisionsDependencies['breaker'] => ({
  word: breakers.word,
  failed: (namespace, jobType, { owner, event_id, error }) =>
    breakers.failure(namespace, jobType, { owner, event_id, error }),
})

/** The policy that the running attempt was granted with; of an effect that nobody has claimed, its type's. */
async function policyOf(effects: Effects, namespace: string, effectId: string): Promise<'hold' | 'reclaim'> {
  try {
    return (await effects.get(namespace, { effect_id: effectId })).on_lease_expiry
  } catch (error) {
    if (!(error instanceof Problem) || error.slug !== 'effect-not-found') throw error
    return effects.context.typePolicy(effectId.split('.')[0] ?? '').on_lease_expiry
  }
}

function retriesOf(
  base: Base,
  { audit, auditFiles }: Records,
  breakers: Breakers,
  effects: Effects,
  metrics: RetryMetrics,
) {
  const { config, store } = base
  const decisions: Omit<DecisionsDependencies, 'metrics'> = {
    nowMs: async () => (await store.clock()).nowUs() / 1000,
    random: Math.random,
    classify: base.classify,
    breaker: breakerOfDecisions(breakers),
    effectPolicy: (namespace, effectId) => policyOf(effects, namespace, effectId),
    maxAttempts: (type, jobType) => maxAttempts(config, type ?? '', jobType),
    backoff: (jobType) => jobTypeConfig(config, jobType),
    decisions: { write: (line) => auditFiles.write('retry_decision', line) },
  }
  return createRetries(metrics, config.retry.metrics.time_window_minutes, decisions, { ...base, audit })
}

/** What the service tells about itself: readiness, the gauges, the page of the system. */
function observationOf(
  { config, fellows, store, memory, inspector, metrics, namespaces, waiting }: Base,
  { audit }: Records,
  breakers: Breakers,
  effects: Effects,
) {
  const counts = createCounts(effects.count, namespaces)
  const health = createHealth({
    silentSeconds: store.silentSeconds,
    inspection: inspector.latest,
    requireSafe: config.redis.require_safe,
    graceSeconds: config.redis.readiness_grace_seconds,
  })
  const storeState = createStoreState({ store, audit, graceSeconds: config.redis.failover_grace_seconds })
  const system = createSystem({
    ...{ store: storeState, health, fellows, counts, memory: memory.read, inspection: inspector.latest },
    async breakersNotClosed(namespace) {
      const states = await inTime(breakers.states(namespace))
      return states && states.filter(({ state }) => state !== 'closed').map(({ jobType }) => jobType)
    },
    privateRedis: usesPrivateRedis(config.redis),
  })
  const breakerStates = async () => (await Promise.all(namespaces.map(breakers.states))).flat()
  const questions = createQuestions()
  metrics.watch({
    memory: memory.read,
    effects: questions.untilEnd(counts.all),
    breakers: questions.untilEnd(() => inTime(breakerStates())),
    storeSilentSeconds: store.silentSeconds,
    waiters: waiting.count,
  })
  return { health, storeState, system, questions }
}

function countEvents(events: Events, metrics: Metrics): void {
  const changes = new Set(['breaker.opened', 'breaker.half_opened', 'breaker.closed'])
  events.subscribe((event) => {
    if (event.event === 'effect.late_completion') metrics.lateCompletion()
    if ('job_type' in event && changes.has(event.event)) metrics.breakerTransition(event.job_type, String(event['to']))
  })
}

export function createServices(options: ServiceOptions) {
  const base = createBase(options)
  const { config, log, memory, inspector, store } = base
  const records = createRecords(base)
  const breakers = breakersOf(base, records)
  const retryMetrics = retryMetricsOf(base)
  const effects = effectsOf(base, records, breakers, retryMetrics)
  const retries = retriesOf(base, records, breakers, effects, retryMetrics)
  const sweep = createSweep(effects.context, base.namespaces, log)
  const observation = observationOf(base, records, breakers, effects)
  countEvents(base.events, base.metrics)

  return {
    ...base,
    ...records,
    ...observation,
    ...{ breakers, retries, retryMetrics, effects, sweep },
    authenticate: createAuth(config.auth.keys, config.server.allow_anonymous),
    /** Begins the background work. */
    start(): void {
      store.watch()
      memory.start()
      inspector.start()
      sweep.start()
      breakers.start()
      records.start()
    },
    /** Ends the background work, writes what still waits, then lets go of the connection. */
    async stop(): Promise<void> {
      memory.stop()
      inspector.stop()
      await observation.questions.end()
      await sweep.stop()
      await breakers.stop()
      await retryMetrics.flush()
      await records.stop()
      await base.wakeUps.close()
      store.close()
    },
  }
}

export type Services = ReturnType<typeof createServices>
