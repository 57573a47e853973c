/** What everything that touches a breaker shares: what it may use, how a script is asked, and who hears of it. */
import { hash } from 'node:crypto'
import type { Audit } from '../audit/audit.ts'
import type { Events } from '../events/events.ts'
import type { Classification } from '../failures/classify.ts'
import { limits } from '../limits.ts'
import type { Store } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import type { BreakerSettings } from './present.ts'
import { breakerCheck, breakerRead, type BreakerReply, breakerReport } from './scripts.ts'
import { createView } from './view.ts'

/** What breakers need outside themselves; src/services.ts passes it. */
export type BreakersDependencies = {
  store: Store
  keys: Keys
  events: Pick<Events, 'tell' | 'emit'>
  audit: Pick<Audit, 'entryArgs' | 'tell'>
  /** `nowMs` is Redis's time. */
  classify: (error: unknown, nowMs: number) => Classification
  settings: (jobType: string) => BreakerSettings
  /** A name that nobody else has. */
  newId: () => string
}

/** What a job came to. Absent `permit`: it had none. `begun_us`: when it began, Redis's microseconds, if that is known. */
export type JobReport = {
  outcome: 'success' | 'failure'
  event_id: string
  permit?: string | undefined
  owner?: string | undefined
  counts: boolean
  hold_ms: number
  begun_us?: number | undefined
}

/** `earlier`: the name of a permit that becomes this one. */
type PermitAsk = { permit: string; earlier?: string | undefined; permit_ms: number }

/** 22 characters (132 bits) that stand for a name in Redis. */
export const digest = (name: string): string => hash('sha256', name, 'base64url').slice(0, 22)

/** What a reported failure means for a breaker. A RATE_LIMIT or EXCHANGE_BAN that names a time asks to hold until then. */
export function failureFacts(classification: Classification): { counts: boolean; hold_ms: number } {
  const holds = ['RATE_LIMIT', 'EXCHANGE_BAN'].includes(classification.failure_type)
  const seconds = holds ? (classification.retry_after_seconds ?? 0) : 0
  return { counts: classification.counts_for_breaker, hold_ms: Math.round(seconds * 1000) }
}

/** The settings as the scripts take them, and the bounds that belong to them. */
const settingsText = (jobType: string, settings: BreakerSettings): string =>
  JSON.stringify({
    job_type: jobType,
    mode: settings.mode,
    failure_threshold: settings.failure_threshold,
    min_distinct_owners: settings.min_distinct_owners,
    half_open_max_probes: settings.half_open_max_probes,
    half_open_successes: settings.half_open_successes,
    window_ms: Math.ceil(settings.time_window_minutes * 60_000),
    auto_recovery_ms: Math.ceil((settings.auto_recovery_seconds ?? 0) * 1000),
    idle_ms: limits.breakerIdleMs,
    events_ms: limits.breakerEventsMs,
    failures_kept: limits.breakerFailuresKept,
    events_remembered: limits.breakerEventsRemembered,
    history_max: limits.breakerHistoryMax,
  })

export function createContext(dependencies: BreakersDependencies) {
  const { store, keys, events } = dependencies
  const view = createView({ store, keys }, async (namespace, jobType) => (await read(namespace, jobType)).record)
  const settings = (jobType: string): string => settingsText(jobType, dependencies.settings(jobType))

  /** Keeps what the script found in the view, and tells this process's listeners of the events that it wrote. */
  function noted<Reply extends BreakerReply>(namespace: string, jobType: string, reply: Reply): Reply {
    view.learn(namespace, jobType, reply.record)
    for (const { event, data } of reply.events) events.tell({ event, namespace, ...data })
    return reply
  }

  async function read(namespace: string, jobType: string): Promise<BreakerReply> {
    const reply = await store.run(breakerRead, keys.breaker(namespace, jobType), { settings: settings(jobType) })
    return noted(namespace, jobType, reply)
  }

  return {
    ...dependencies,
    view,
    noted,
    read,
    settingsText: settings,

    /** Redis's time as this process knows it. */
    nowMs: async (): Promise<number> => (await store.clock()).nowUs() / 1000,

    /** Takes the permit, or what an earlier one becomes, where one is needed. */
    async check(namespace: string, jobType: string, ask: PermitAsk) {
      const reply = await store.run(breakerCheck, keys.breaker(namespace, jobType), {
        settings: settings(jobType),
        permit: digest(ask.permit),
        earlier: ask.earlier === undefined ? '' : digest(ask.earlier),
        permit_ms: Math.ceil(ask.permit_ms),
      })
      return noted(namespace, jobType, reply)
    },

    async report(namespace: string, jobType: string, { event_id, permit, owner, ...report }: JobReport) {
      const reply = await store.run(breakerReport, keys.breaker(namespace, jobType), {
        settings: settings(jobType),
        outcome: report.outcome,
        permit: permit === undefined ? '' : digest(permit),
        event_id: digest(event_id),
        owner: digest(owner ?? ''),
        counts: report.counts ? '1' : '',
        hold_ms: report.hold_ms,
        begun_us: report.begun_us ?? 0,
      })
      return noted(namespace, jobType, reply)
    },
  }
}

export type Context = ReturnType<typeof createContext>

export type TellWouldBlock = (namespace: string, jobType: string, state: string, reason: string) => void

/** Tells of claims and checks that `mode: shadow` let go: each is an event, at most one a second for each breaker. */
export function createWouldBlock({ events }: Pick<BreakersDependencies, 'events'>): TellWouldBlock {
  const toldAtMs = new Map<string, number>()
  return (namespace, jobType, state, reason) => {
    const name = `${namespace} ${jobType}`
    const now = performance.now()
    if (now - (toldAtMs.get(name) ?? -Infinity) < limits.breakerWouldBlockEventMs) return
    if (toldAtMs.size >= limits.breakerViewJobTypesMax) toldAtMs.clear()
    toldAtMs.set(name, now)
    events.emit({ event: 'breaker.would_block', namespace, job_type: jobType, state, reason })
  }
}
