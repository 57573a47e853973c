/** What callers see of an effect: bodies of answers and members of problems. The current token is in no problem. */
import { isoInstant } from '../instant.ts'
import { RawJson } from '../json.ts'
import { Problem, type ProblemSlug } from '../problems.ts'
import type { EffectRecord, EffectStep } from './scripts.ts'
import { parseEffectId, reference } from './identity.ts'

/** RFC 3339 in UTC with milliseconds, or null for 0. */
export const instant = (ms: number): string | null => (ms === 0 ? null : isoInstant(ms))

const orNull = (text: string): string | null => (text === '' ? null : text)
const raw = (text: string): RawJson | null => (text === '' ? null : new RawJson(text))
const metadataOf = (record: EffectRecord): unknown => (record.metadata === '' ? null : JSON.parse(record.metadata))

/** How a fingerprint is stored: 64 hex digits take 44 characters. */
export const packFingerprint = (fingerprint: string): string =>
  /^[0-9a-f]{64}$/.test(fingerprint) ? `h${Buffer.from(fingerprint, 'hex').toString('base64url')}` : `s${fingerprint}`

const unpackFingerprint = (packed: string): string =>
  packed.startsWith('h') ? Buffer.from(packed.slice(1), 'base64url').toString('hex') : packed.slice(1)

const settled = (record: EffectRecord): boolean => record.state === 'completed' || record.state === 'failed'

/** Seconds until the lease ends, never negative. */
export const leaseRemaining = (record: EffectRecord, nowMs: number): number =>
  Math.max(0, Math.round(record.leaseExpiresAt - nowMs)) / 1000

/** Where an effect is spoken of: whose, which, and the Redis time at this answer. */
export type Subject = { namespace: string; effectId: string; nowMs: number }

export function recordBody({ namespace, effectId }: Subject, record: EffectRecord) {
  const leased = record.state === 'in_progress' || record.state === 'uncertain'
  return {
    effect_id: effectId,
    type: parseEffectId(effectId)?.type ?? '',
    entity: raw(record.entity),
    state: record.state,
    owner: orNull(record.owner),
    fencing_token: record.token,
    attempt: record.attempt,
    reference: reference(namespace, effectId),
    job_type: orNull(record.jobType),
    on_lease_expiry: record.policy,
    durability: record.durability,
    metadata: metadataOf(record),
    fingerprint: record.fingerprint === '' ? null : unpackFingerprint(record.fingerprint),
    result: record.state === 'completed' ? raw(record.body) : null,
    error: record.state === 'completed' ? null : raw(record.body),
    created_at: instant(record.createdAt),
    updated_at: instant(record.updatedAt),
    lease_expires_at: leased ? instant(record.leaseExpiresAt) : null,
    not_before: instant(record.notBefore),
    completed_at: record.state === 'completed' ? instant(record.updatedAt) : null,
    failed_at: record.state === 'failed' ? instant(record.updatedAt) : null,
    // What is in progress or uncertain never vanishes by itself.
    expires_at: leased ? null : instant(record.updatedAt + record.retentionMs),
  }
}

export const historyBody = (history: EffectStep[]) =>
  history.map(({ at, attempt, step, by, detail }) => ({ at: instant(at), step, attempt, by, detail: orNull(detail) }))

export function grantBody({ namespace, effectId, nowMs }: Subject, record: EffectRecord, replayed: boolean) {
  const completed = record.state === 'completed'
  return {
    outcome: completed ? ('completed' as const) : ('claimed' as const),
    effect_id: effectId,
    fencing_token: record.token,
    attempt: record.attempt,
    reference: reference(namespace, effectId),
    claimed_at: instant(record.claimedAt),
    lease_seconds: record.leaseMs / 1000,
    lease_expires_at: completed ? null : instant(record.leaseExpiresAt),
    lease_remaining_seconds: completed ? 0 : leaseRemaining(record, nowMs),
    durability: record.durability,
    metadata: metadataOf(record),
    ...(completed ? { completed_at: instant(record.updatedAt), result: raw(record.body) } : {}),
    ...(replayed ? { replayed: true } : {}),
  }
}

/**
 * The answer to a claim of a type in shadow mode that would be refused or replayed: a grant all the same. `would_be` is
 * the true outcome. Its token is below that of the record, so that what the caller reports with it changes nothing, and is
 * no lost grant either.
 */
export function shadowBody(
  subject: Subject,
  record: EffectRecord,
  { leaseMs, metadata }: Pick<EffectRecord, 'leaseMs' | 'metadata'>,
  wouldBe: string,
) {
  const now = Math.floor(subject.nowMs)
  const lease = { claimedAt: now, leaseMs, leaseExpiresAt: now + leaseMs }
  const granted: EffectRecord = { ...record, ...lease, metadata, state: 'in_progress', token: record.token - 1 }
  return { ...grantBody(subject, granted, false), would_be: wouldBe }
}

/** The stored outcome, as every later caller is told it. */
export function outcomeBody({ effectId }: Subject, record: EffectRecord, replayed: boolean) {
  const base = {
    outcome: record.state,
    effect_id: effectId,
    attempt: record.attempt,
    ...(replayed ? { replayed } : {}),
  }
  return record.state === 'completed'
    ? { ...base, completed_at: instant(record.updatedAt), result: raw(record.body) }
    : { ...base, failed_at: instant(record.updatedAt), error: raw(record.body) }
}

const unknownEffect = { state: null, owner: null, attempt: null, metadata: null, updated_at: null }

/** A problem about an effect, with what every such problem tells; `record` is null where there is none. */
export function effectProblem(
  slug: ProblemSlug,
  detail: string,
  { namespace, effectId }: Subject,
  record: EffectRecord | null,
  members: Record<string, unknown> = {},
): Problem {
  const known = record && {
    state: record.state,
    owner: orNull(record.owner),
    attempt: record.attempt,
    metadata: metadataOf(record),
    updated_at: instant(record.updatedAt),
    ...(settled(record) ? { [record.state === 'completed' ? 'result' : 'error']: raw(record.body) } : {}),
  }
  return new Problem(slug, detail, {
    ...members,
    effect_id: effectId,
    reference: reference(namespace, effectId),
    ...(known ?? unknownEffect),
  })
}

/** 409 `effect-in-progress`, with the time until somebody else may ask again. */
export function inProgressProblem(subject: Subject, record: EffectRecord): Problem {
  const remaining = leaseRemaining(record, subject.nowMs)
  return effectProblem('effect-in-progress', 'Another holder has a living lease on this effect.', subject, record, {
    outcome: 'in_progress',
    lease_expires_at: instant(record.leaseExpiresAt),
    lease_remaining_seconds: remaining,
    retry_after_seconds: Math.max(1, Math.ceil(remaining)),
  })
}

export const uncertainProblem = (subject: Subject, record: EffectRecord): Problem =>
  effectProblem('effect-uncertain', 'Nobody knows whether this effect happened.', subject, record, {
    outcome: 'uncertain',
  })
