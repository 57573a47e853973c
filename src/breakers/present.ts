/** A breaker as of now: what it says of itself, and whether it lets a job go. */
import type { Config } from '../config.ts'
import type { BreakerRecord, BreakerReply, LastOverride, Transition } from './scripts.ts'

/** The settings of one job type's breaker; `mode` is `disabled` where `enabled` is false. */
export type BreakerSettings = Config['retry']['circuit_breaker']

/** Why a breaker refuses, as 409 `circuit-open` tells it. */
export type Refusal = {
  breaker_state: string
  /** `open`, `forced_open`, `hold` or `no_probe_left`. */
  reason: string
  requires_override: boolean
  hold_until: string | null
  /** Null where no end is known. */
  retry_after_seconds: number | null
}

const instant = (ms: number): string => new Date(ms).toISOString()
const instantOrNull = (ms: number): string | null => (ms > 0 ? instant(ms) : null)
const textOrNull = (text: string | undefined): string | null => (text ? text : null)

/** The breaker at Redis's time `nowMs`: an open one whose time is over is half-open, whoever writes that first. */
export function settled(record: BreakerRecord, nowMs: number): BreakerRecord {
  if (record.state !== 'open' || record.endsAt === 0 || nowMs < record.endsAt) return record
  const reason = record.forced ? 'override_expired' : 'auto_recovery'
  return { ...record, state: 'half_open', version: record.version + 1, forced: false, endsAt: 0, reason }
}

/** Why nothing goes at all through a settled breaker, as `breaker.refusal` of lua/prelude/breaker.lua says it. */
export function refusalReason(record: BreakerRecord, nowMs: number): 'open' | 'forced_open' | 'hold' | undefined {
  if (record.state === 'open') return record.forced ? 'forced_open' : 'open'
  return record.holdUntil > nowMs ? 'hold' : undefined
}

/**
 * What a settled breaker says to the retry of a failed job: an open one refuses it, a hold only delays it. `holdUntilMs`: 0
 * where nothing is held. A mode that refuses nobody has nothing to say.
 */
export function retryWord(record: BreakerRecord, mode: BreakerSettings['mode'], nowMs: number) {
  const reason = mode === 'enforce' ? refusalReason(record, nowMs) : undefined
  const held = reason === 'hold'
  return { state: record.state, refuses: reason !== undefined && !held, holdUntilMs: held ? record.holdUntil : 0 }
}

const requiresOverride = ({ state, endsAt }: BreakerRecord): boolean => state === 'open' && endsAt === 0

function retryAfterSeconds(record: BreakerRecord, nowMs: number): number | null {
  const endMs = Math.max(record.endsAt, record.holdUntil)
  return requiresOverride(record) || endMs <= nowMs ? null : Math.ceil(endMs - nowMs) / 1000
}

export const refusalOf = (record: BreakerRecord, reason: string, nowMs: number): Refusal => ({
  breaker_state: record.state,
  reason,
  requires_override: requiresOverride(record),
  hold_until: record.holdUntil > nowMs ? instant(record.holdUntil) : null,
  retry_after_seconds: retryAfterSeconds(record, nowMs),
})

const overrideBody = ({ user, on_behalf_of, reason, action, at, expires_at }: LastOverride) => ({
  ...{ user, on_behalf_of: textOrNull(on_behalf_of), reason, action },
  at: instant(at),
  expires_at: instantOrNull(expires_at),
})

/** The breaker as callers see it. */
export function breakerBody(jobType: string, settings: BreakerSettings, { record, failures, nowMs }: BreakerReply) {
  return {
    job_type: jobType,
    state: record.state,
    mode: settings.mode,
    version: record.version,
    failure_count: failures,
    failure_threshold: settings.failure_threshold,
    time_window_seconds: settings.time_window_minutes * 60,
    opened_at: instantOrNull(record.openedAt),
    reason: textOrNull(record.reason),
    requires_override: requiresOverride(record),
    last_override: record.override === null ? null : overrideBody(record.override),
    auto_recovery_at: instantOrNull(record.endsAt),
    hold_until: record.holdUntil > nowMs ? instant(record.holdUntil) : null,
  }
}

export type BreakerBody = ReturnType<typeof breakerBody>

export const transitionBody = (transition: Transition) => ({
  at: instant(transition.at),
  version: transition.version,
  from: transition.from,
  to: transition.to,
  cause: transition.cause,
  action: textOrNull(transition.action),
  user: textOrNull(transition.user),
  on_behalf_of: textOrNull(transition.on_behalf_of),
  reason: textOrNull(transition.reason),
})
