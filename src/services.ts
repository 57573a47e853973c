/** Every concept, built from the configuration and a connection: the one list of what a handler may receive. */
import type { Logger } from 'pino'
import { createAuth } from './auth.ts'
import { builtInEffectTypes, type Config, effectTypeConfig, jobTypeConfig, maxAttempts } from './config.ts'
import type { EffectsDependencies } from './effects/context.ts'
import { createEffects, type Effects } from './effects/effects.ts'
import { createJobs } from './effects/jobs.ts'
import { createSweep } from './effects/sweep.ts'
import { createEvents } from './events/events.ts'
import { createClassifier } from './failures/classify.ts'
import { keptError } from './failures/kept.ts'
import { createCounts } from './observability/counts.ts'
import { createHealth } from './observability/health.ts'
import { createMetrics, type Metrics } from './observability/metrics.ts'
import { createSystem } from './observability/system.ts'
import { invalidRequest } from './problems.ts'
import { connectStore, type Store, type StoreAddress, type StoreObserver } from './redis/client.ts'
import { createInspector, type InspectionRules, type Inspector } from './redis/inspect.ts'
import { createKeys } from './redis/keys.ts'
import { createMemory, type Memory } from './redis/memory.ts'
import { loadPreludes, type Preludes } from './redis/scripts.ts'
import { decideRetry } from './retries/decide.ts'

export type ServiceOptions = {
  config: Config
  /** Where Redis is: of the configuration, or of the private server. */
  address: StoreAddress
  log: Logger
  /** Tests replace the clock that scripts read. */
  preludes?: Preludes
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
  return (type) => {
    if (!config.effects.allow_unknown_types && !known.has(type)) {
      throw invalidRequest([{ pointer: '/type', message: 'is not a configured effect type' }])
    }
    return effectTypeConfig(config, type)
  }
}

const noJobs = (log: Logger) =>
  createJobs({
    log,
    record: () => undefined,
    budgetSpent: async () => false,
    gate: {
      view: async () => ({ verdict: 'pass' }),
      take: async () => ({ allowed: true }),
      giveBack: async () => undefined,
      extend: async () => undefined,
      succeeded: async () => undefined,
      failed: async () => ({ state: 'closed', refuses: false }),
    },
  })

/** `require_safe` looks at the eviction policy in any case. */
const inspectionRules = ({ redis, retry }: Config): InspectionRules => ({
  checkEviction: retry.redis.check_eviction_policy || redis.require_safe,
  memoryBudgetBytes: retry.redis.memory_budget_mb === null ? null : retry.redis.memory_budget_mb * 1024 * 1024,
})

/** Another server may answer after a reconnect: it is checked again. */
const storeObserver = (metrics: Metrics, log: Logger, checkAgain: () => void): StoreObserver => ({
  answered: metrics.storeAnswered,
  trouble: metrics.storeTrouble,
  connection: (event, detail) => {
    log[event === 'ready' ? 'info' : 'warn']({ event, detail }, 'redis connection')
    if (event === 'ready') checkAgain()
  },
})

type Observed = {
  config: Config
  store: Store
  memory: Memory
  inspector: Inspector
  metrics: Metrics
  count: Effects['count']
}

/** What the service tells about itself: readiness, the gauges, the page of the system. */
function createObservation({ config, store, memory, inspector, metrics, count }: Observed) {
  const counts = createCounts(count, namespacesOf(config))
  const health = createHealth({
    silentSeconds: store.silentSeconds,
    inspection: inspector.latest,
    requireSafe: config.redis.require_safe,
    graceSeconds: config.redis.readiness_grace_seconds,
  })
  const system = createSystem({
    ...{ health, counts, memory: memory.read, inspection: inspector.latest },
    breakersNotClosed: async () => [],
    privateRedis: config.redis.url === null,
    processes: 1,
  })
  metrics.watch({ memory: memory.read, effects: counts.all, storeSilentSeconds: store.silentSeconds })
  return { health, system }
}

export function createServices({ config, address, log, preludes = loadPreludes() }: ServiceOptions) {
  const metrics = createMetrics(knownTypes(config))
  const events = createEvents(log)
  const store = connectStore(
    address,
    preludes,
    storeObserver(metrics, log, () => inspector.inBackground()),
  )
  const keys = createKeys(config.retry.redis.namespace)
  const memory = createMemory(store, events, config.retry.redis.memory_budget_mb, log)
  const inspector = createInspector(store, inspectionRules(config), log)
  const classifier = createClassifier(config.failures)
  const namespaces = namespacesOf(config)
  const effects = createEffects({
    ...{ store, keys, events },
    typePolicy: typePolicy(config),
    maxAttempts: (type, jobType) => maxAttempts(config, type, jobType),
    maxResultBytes: config.effects.max_result_bytes,
    memory: memory.read,
    classify: (error, nowMs) => classifier.classify(error, { nowMs }),
    keepError: keptError,
    advise: (failure) =>
      decideRetry({
        ...failure,
        budgetExhausted: failure.budgetSpent,
        retryAfterSeconds: failure.classification.retry_after_seconds,
        backoff: jobTypeConfig(config, failure.jobType),
        random: Math.random(),
      }),
    jobs: noJobs(log),
    observe: { claim: metrics.claim },
  })
  const sweep = createSweep(effects.context, namespaces, log)
  const observed = createObservation({ config, store, memory, inspector, metrics, count: effects.count })
  events.subscribe((event) => log.info(event, event.event))
  events.subscribe((event) => {
    if (event.event === 'effect.late_completion') metrics.lateCompletion()
  })

  return {
    ...{ config, log, metrics, events, store, memory, classifier, effects, sweep, namespaces, inspector },
    ...observed,
    authenticate: createAuth(config.auth.keys, config.server.allow_anonymous),
    /** Begins the background work. */
    start(): void {
      memory.start()
      inspector.start()
      sweep.start()
    },
    /** Ends the background work, then the connection. */
    async stop(): Promise<void> {
      memory.stop()
      inspector.stop()
      await sweep.stop()
      store.close()
    },
  }
}

export type Services = ReturnType<typeof createServices>
