/** The scripts that act on breakers: names for their keys and arguments, and the typed form of what they answer. */
import { defineScript, type RawReply } from '../redis/scripts.ts'

/** States of a breaker. */
export const breakerStates = ['closed', 'open', 'half_open'] as const
export type BreakerState = (typeof breakerStates)[number]

/** What the last person did to a breaker; times in Redis milliseconds, `expires_at` 0 for none. */
export type LastOverride = {
  user: string
  on_behalf_of: string
  reason: string
  action: OverrideAction
  at: number
  expires_at: number
}
export const overrideActions = ['half_open', 'close', 'open'] as const
export type OverrideAction = (typeof overrideActions)[number]

/** A breaker as stored. Times are Redis milliseconds, 0 for none. */
export type BreakerRecord = {
  /** Its place in the order of all changes of the namespace's breakers. */
  seq: number
  state: BreakerState
  version: number
  openedAt: number
  /** A word: why it is not closed; `''` while it is. */
  reason: string
  /** A person opened it. */
  forced: boolean
  /** When an open one becomes half-open by itself. */
  endsAt: number
  holdUntil: number
  override: LastOverride | null
}

/** One line of history, and with `job_type` and `failure_count` one event. `at` in Redis milliseconds. */
export type Transition = {
  at: number
  from: BreakerState
  to: BreakerState
  version: number
  cause: string
  user?: string
  on_behalf_of?: string
  reason?: string
  action?: string
}

/** A transition as it stands in the event stream. */
export type TransitionEvent = {
  event: BreakerEventName
  data: Omit<Transition, 'at'> & { job_type: string; failure_count: number }
}
export type BreakerEventName = 'breaker.opened' | 'breaker.half_opened' | 'breaker.closed' | 'breaker.overridden'

/** A breaker after a script, at Redis's time `nowMs`, with the events that the script wrote. */
export type BreakerReply = { nowMs: number; record: BreakerRecord; failures: number; events: TransitionEvent[] }

/** The breaker of a job type that nothing is remembered of. */
export const unknownBreaker: BreakerRecord = {
  ...{ seq: 0, state: 'closed', version: 0, openedAt: 0, reason: '', forced: false, endsAt: 0, holdUntil: 0 },
  override: null,
}

/** Decodes `breaker.fields` of lua/prelude/breaker.lua, in its order. */
function decodeRecord(raw: unknown): BreakerRecord {
  const [seq, state, version, openedAt, reason, forced, endsAt, holdUntil, override] = raw as [
    ...[seq: number, state: BreakerState, version: number, openedAt: number, reason: string],
    ...[forced: 0 | 1, endsAt: number, holdUntil: number, override: string],
  ]
  return {
    ...{ seq, state, version, openedAt, reason, endsAt, holdUntil },
    forced: forced === 1,
    override: override === '' ? null : (JSON.parse(override) as LastOverride),
  }
}

function decodeReply([, nowUs, raw]: RawReply): BreakerReply {
  const [record, failures, events] = raw as [unknown, number, [event: BreakerEventName, data: string][]]
  return {
    nowMs: nowUs / 1000,
    record: decodeRecord(record),
    failures,
    events: events.map(([event, data]) => ({ event, data: JSON.parse(data) as TransitionEvent['data'] })),
  }
}

const breakerKeys = ['breaker', 'reports', 'owners', 'permits', 'history', 'index', 'events'] as const

// Full memory never stops a breaker: what it writes is small and bounded.
export const breakerRead = defineScript({
  name: 'breaker-read',
  flags: ['allow-oom'],
  keys: breakerKeys,
  args: ['settings'],
  decode: decodeReply,
})

export const breakerCheck = defineScript({
  name: 'breaker-check',
  flags: ['allow-oom'],
  keys: breakerKeys,
  args: ['settings', 'permit', 'earlier', 'permit_ms'],
  decode: (reply): BreakerReply & { allowed: boolean; reason: string } => ({
    ...decodeReply(reply),
    allowed: reply[0] === 'allowed',
    reason: reply[3] as string,
  }),
})

/** `entry` is what the audit answered; null: another version, so nothing was done. */
export const breakerOverride = defineScript({
  name: 'breaker-override',
  flags: ['allow-oom'],
  keys: [...breakerKeys, 'audit', 'audit_head', 'audit_nonce'],
  args: ['settings', 'action', 'version', 'ends_ms', 'audit_entry'],
  decode: (reply): BreakerReply & { entry: string[] | null } => ({
    ...decodeReply(reply),
    entry: reply[0] === 'conflict' ? null : (reply[3] as string[]),
  }),
})

export const breakerPermit = defineScript({
  name: 'breaker-permit',
  flags: ['allow-oom'],
  keys: ['permits'],
  args: ['permit', 'extend_ms'],
  decode: ([status]) => status as 'extended' | 'given_back' | 'gone',
})

export const breakerReport = defineScript({
  name: 'breaker-report',
  flags: ['allow-oom'],
  keys: breakerKeys,
  args: ['settings', 'outcome', 'permit', 'event_id', 'owner', 'counts', 'hold_ms', 'begun_us'],
  decode: (reply): BreakerReply & { counted: boolean } => ({ ...decodeReply(reply), counted: reply[0] === 'counted' }),
})

/** One page in the order of changes; `record` is null for a breaker that was forgotten. */
export type BreakerPage = {
  nowMs: number
  /** What was seen is no longer there: the store has lost changes. */
  lost: boolean
  top: { seq: number; jobType: string }
  entries: { jobType: string; seq: number; record: BreakerRecord | null }[]
}

export const breakerList = defineScript({
  name: 'breaker-list',
  flags: ['no-writes'],
  keys: ['index'],
  args: ['prefix', 'after', 'seen_job_type', 'seen_seq', 'count'],
  decode: ([status, nowUs, seq, jobType, entries]): BreakerPage => ({
    nowMs: nowUs / 1000,
    lost: status === 'lost',
    top: { seq: seq as number, jobType: jobType as string },
    entries: (entries as [string, number, unknown[]][]).map(([name, place, fields]) => ({
      ...{ jobType: name, seq: place },
      record: fields.length === 0 ? null : decodeRecord(fields),
    })),
  }),
})

export const breakerHistory = defineScript({
  name: 'breaker-history',
  flags: ['no-writes'],
  keys: ['history'],
  args: ['before', 'count'],
  decode: ([, , entries]) => (entries as string[]).map((entry) => JSON.parse(entry) as Transition),
})
