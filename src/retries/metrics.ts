/**
 * Retry metrics and retry budgets. Every count is in Redis, so all replicas read the same sums; each event counts once.
 */
import { hash } from 'node:crypto'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import type { Store } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import type { RetryReason } from './decide.ts'
import { createQueue } from './queue.ts'
import { retryBudget, retryDecide, retryRead, retryRecord } from './scripts.ts'
import { addCounts, describeCounts, emptyCounts, type MetricsBody, sumWindow, type WindowCounts } from './window.ts'

/** Where job types are counted together once `limits.retryJobTypesMax` have counts of their own; no job type has this name. */
export const otherJobTypes = '_other'

/** Retries may be `ratio` of the first attempts of the last `window_seconds`, plus `min_per_second` of it. */
export type RetryBudget = { ratio: number; min_per_second: number; window_seconds: number }

export type RetryMetricsSettings = {
  enabled: boolean
  /** The window where a caller names none, and that of the Prometheus gauges. */
  windowMinutes: number
  /** Null: this job type has none. */
  budget: (jobType: string) => RetryBudget | null
}

export type RetryMetricsDependencies = {
  store: Store
  keys: Keys
  settings: RetryMetricsSettings
  log: Logger
  /** A name that nobody else has. */
  newId: () => string
  /** Records that could not be kept. */
  observe: { retryRecordsLost: (count: number) => void }
}

/**
 * Something that happened to a job. `attempt` from number 2 on, or any that a caller reports; `first_attempt` is counted
 * for the budget only. The same `event_id` with the same kind counts once while it is remembered: an hour, the newest
 * 10,000 of a namespace.
 */
export type RetryRecord = {
  kind: 'attempt' | 'success' | 'failure' | 'blocked' | 'first_attempt'
  /** Default 1. */
  attempt_number?: number | undefined
  /** Why it was blocked; default `other`, as is every reason after the sixteenth of callers' own. */
  reason?: string | undefined
  event_id?: string | undefined
}

/** One event as the script takes it. */
type EventArgument = [kind: RetryRecord['kind'], attemptNumber: number, reason: string, id: string, rememberMs: number]

/** A decision to be taken from the budget and recorded. */
export type DecisionRecord = {
  reason: RetryReason
  /** The attempt that failed. */
  attempt: number
  event_id?: string | undefined
  effect_id?: string | undefined
}

type Identity = { id: string; rememberMs: number }

/**
 * 16 characters (96 bits) that stand for an event. One without an id of its own is remembered just long enough for the
 * store to send it again.
 */
const createIdentify =
  (newId: () => string) =>
  (jobType: string, kind: string, eventId: string | undefined): Identity => ({
    id: hash('sha256', JSON.stringify([jobType, kind, eventId ?? newId()]), 'base64url').slice(0, 16),
    rememberMs: eventId === undefined ? limits.retryNonceMs : limits.retryEventIdsMs,
  })

const sliceMs = (budget: RetryBudget | null): number => (budget === null ? 0 : budget.window_seconds * 100)
const spareRetries = (budget: RetryBudget): number => budget.min_per_second * budget.window_seconds

const scriptKeys = (keys: Keys, namespace: string, jobType: string): string[] => [
  keys.retryMetrics(namespace, jobType),
  keys.retryMetrics(namespace, otherJobTypes),
  keys.retryJobTypes(namespace),
  keys.retrySeen(namespace),
  keys.retryBudget(namespace, jobType),
]

function scriptArguments(settings: RetryMetricsSettings, jobType: string) {
  return {
    job_type: jobType,
    job_types_max: limits.retryJobTypesMax,
    with_metrics: settings.enabled ? '1' : '',
    slice_ms: sliceMs(settings.budget(jobType)),
  }
}

function createRecording({ store, keys, settings, log, newId, observe }: RetryMetricsDependencies) {
  const identify = createIdentify(newId)

  function eventArgument(jobType: string, record: RetryRecord): EventArgument {
    const { id, rememberMs } = identify(jobType, record.kind, record.event_id)
    return [record.kind, record.attempt_number ?? 1, record.reason ?? 'other', id, rememberMs]
  }

  const send = (namespace: string, jobType: string, events: EventArgument[]): Promise<unknown> =>
    store.run(retryRecord, scriptKeys(keys, namespace, jobType), {
      ...scriptArguments(settings, jobType),
      events: JSON.stringify(events),
    })

  function lost(count: number, cause: unknown): void {
    observe.retryRecordsLost(count)
    if (cause !== undefined) log.warn({ err: cause, count }, 'retry metrics are lost')
  }
  const queue = createQueue<EventArgument>({ send, lost })

  /** What is to be counted: nothing where metrics are off and no budget looks at it. */
  function eventsOf(jobType: string, record: RetryRecord): EventArgument[] {
    const budgeted = settings.budget(jobType) !== null
    if (record.kind === 'first_attempt') return budgeted ? [eventArgument(jobType, record)] : []
    const own = settings.enabled || (budgeted && record.kind === 'attempt') ? [eventArgument(jobType, record)] : []
    const isFirst = budgeted && record.kind === 'attempt' && (record.attempt_number ?? 1) === 1
    return isFirst ? [...own, eventArgument(jobType, { ...record, kind: 'first_attempt' })] : own
  }

  return {
    /** Counts it, and resolves when it is counted. Throws `store-unavailable`. */
    record: async (namespace: string, jobType: string, record: RetryRecord): Promise<void> => {
      const events = eventsOf(jobType, record)
      if (events.length > 0) await send(namespace, jobType, events)
    },
    /** Counts it soon; never throws, and nobody waits. What cannot be counted is logged and counted as lost. */
    recordLater: (namespace: string, jobType: string, record: RetryRecord): void => {
      const events = eventsOf(jobType, record)
      if (events.length > 0) queue.add(namespace, jobType, events)
    },
    /** Resolves when everything that was recorded so far is counted or, after a failure, lost. */
    flush: queue.flush,
  }
}

function createBudget({ store, keys, settings, newId }: RetryMetricsDependencies) {
  const identify = createIdentify(newId)
  return {
    /** Whether a retry now would be over the budget of the fleet. Records nothing; without a budget asks nobody. */
    budgetSpent: async (namespace: string, jobType: string): Promise<boolean> => {
      const budget = settings.budget(jobType)
      if (budget === null) return false
      const args = { slice_ms: sliceMs(budget), ratio: budget.ratio, spare: spareRetries(budget) }
      return (await store.run(retryBudget, [keys.retryBudget(namespace, jobType)], args)).spent
    },

    /**
     * Takes a wanted retry from the budget, and records the retry or the block, in one step. The reason that comes back
     * is `budget_exhausted` where nothing is left, and the first one where the same event_id comes again.
     *
     * A first attempt is one fact whoever tells of it: under the effect's id, else the event_id, the claim of a job type,
     * `attempt` with number 1 and the decision about attempt 1 count it once.
     */
    settle: async (namespace: string, jobType: string, record: DecisionRecord) => {
      const budget = settings.budget(jobType)
      const decision = identify(jobType, 'decision', record.event_id)
      const first = identify(jobType, 'first_attempt', record.effect_id ?? record.event_id)
      return store.run(retryDecide, scriptKeys(keys, namespace, jobType), {
        ...scriptArguments(settings, jobType),
        ratio: budget?.ratio ?? 0,
        spare: budget === null ? 0 : spareRetries(budget),
        id: decision.id,
        remember_ms: decision.rememberMs,
        first_id: record.attempt === 1 ? first.id : '',
        first_remember_ms: first.rememberMs,
        reason: record.reason,
        attempt_number: record.attempt + 1,
      })
    },
  }
}

/** Metrics of all job types together, and of each. */
export type AllMetricsBody = MetricsBody & { job_types: Record<string, MetricsBody> }

function createReading({ store, keys, settings }: RetryMetricsDependencies) {
  async function countsOf(namespace: string, jobType: string, windowMinutes: number): Promise<WindowCounts> {
    const kept = await store.run(retryRead, [keys.retryMetrics(namespace, jobType)], { window_minutes: windowMinutes })
    return sumWindow(kept, windowMinutes)
  }

  /** Counts of every job type that has any, by name. `windowMinutes` is 1–1440. */
  async function allCounts(namespace: string, windowMinutes: number): Promise<Map<string, WindowCounts>> {
    const names = (await store.read('SMEMBERS', keys.retryJobTypes(namespace))) as string[]
    const read = async (name: string) => [name, await countsOf(namespace, name, windowMinutes)] as const
    return new Map(await Promise.all(names.toSorted().map(read)))
  }

  return {
    allCounts: (namespace: string) => allCounts(namespace, settings.windowMinutes),

    readAll: async (namespace: string, windowMinutes = settings.windowMinutes): Promise<AllMetricsBody> => {
      const counts = await allCounts(namespace, windowMinutes)
      const together = emptyCounts()
      for (const { window } of counts.values()) addCounts(together, window)
      const each = [...counts].map(([name, { window }]) => [name, describeCounts(window, windowMinutes)] as const)
      return { ...describeCounts(together, windowMinutes), job_types: Object.fromEntries(each) }
    },

    /** One never seen has 0 everywhere. */
    readOne: async (
      namespace: string,
      jobType: string,
      windowMinutes = settings.windowMinutes,
    ): Promise<MetricsBody> => {
      return describeCounts((await countsOf(namespace, jobType, windowMinutes)).window, windowMinutes)
    },
  }
}

/** Recording, budgets and reading. */
export function createRetryMetrics(dependencies: RetryMetricsDependencies) {
  return {
    ...createRecording(dependencies),
    ...createBudget(dependencies),
    ...createReading(dependencies),
  }
}

export type RetryMetrics = ReturnType<typeof createRetryMetrics>
