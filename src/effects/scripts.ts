/** The scripts that act on effects: names for their keys and arguments, and the typed form of what they answer. */
import assert from 'node:assert/strict'
import { defineScript, type RawReply } from '../redis/scripts.ts'

/** States of an effect; `uncertain` means that nobody knows whether it happened. */
export const effectStates = ['in_progress', 'completed', 'failed', 'released', 'uncertain'] as const
export type EffectState = (typeof effectStates)[number]
export type LeasePolicy = 'hold' | 'reclaim'

/** One record as the scripts tell it. Times are Redis milliseconds, 0 for none; absent text is `''`. */
export type EffectRecord = {
  state: EffectState
  policy: LeasePolicy
  /** The current attempt, or an earlier one since the last resolve, ended without anybody knowing. */
  doubt: boolean
  earlierDoubt: boolean
  attempt: number
  token: number
  createdAt: number
  updatedAt: number
  claimedAt: number
  leaseExpiresAt: number
  notBefore: number
  leaseMs: number
  retentionMs: number
  owner: string
  /** How the last attempt ended: `''`, `lease`, `release`, `complete`, `exhausted`, or `fail:` or `resolve:` and a digest of the call; with `+` for a lost grant. */
  ended: string
  fingerprint: string
  jobType: string
  durability: string
  /** JSON text. */
  metadata: string
  /** JSON text; `''` once settled. */
  entity: string
  /** JSON text of the result (completed) or of the last error. */
  body: string
}

/** One remembered step of an effect; `at` in Redis milliseconds. */
export type EffectStep = { at: number; attempt: number; step: string; by: string; detail: string }

/** Decodes the fields of `record.fields` in lua/prelude/record.lua, in their order. */
function decodeRecord(raw: unknown): EffectRecord {
  assert(Array.isArray(raw) && raw.length === 21, 'a record has 21 fields')
  const fields = raw as [EffectState, LeasePolicy, ...unknown[]]
  const number = (index: number) => fields[index] as number
  const text = (index: number) => fields[index] as string
  return {
    state: fields[0],
    policy: fields[1],
    doubt: fields[2] === 1,
    earlierDoubt: fields[3] === 1,
    attempt: number(4),
    token: number(5),
    createdAt: number(6),
    updatedAt: number(7),
    claimedAt: number(8),
    leaseExpiresAt: number(9),
    notBefore: number(10),
    leaseMs: number(11),
    retentionMs: number(12),
    owner: text(13),
    ended: text(14),
    fingerprint: text(15),
    jobType: text(16),
    durability: text(17),
    metadata: text(18),
    entity: text(19),
    body: text(20),
  }
}

const decodeSteps = (raw: unknown): EffectStep[] =>
  (raw as [number, number, string, string, string][]).map(([at, attempt, step, by, detail]) => ({
    ...{ at, attempt, step, by, detail },
  }))

/**
 * Arguments of the scripts that judge a lease. Where it cannot be told whether one is over they answer `'clock_unsure'`, and
 * the store looks at the clock and asks again.
 */
const leaseClock = ['clock_step', 'clock_max_us'] as const

const effectKeys = ['effect', 'inflight'] as const

/** A claim that found, or made, a record. `lapsed`: it was the first to notice a silent holder; `inDoubt`: the attempt before ended so. */
type ClaimedOrNot = {
  status:
    | 'claimed'
    | 'replayed'
    | 'completed_now'
    | 'completed_again'
    | 'completed'
    | 'failed'
    | 'in_progress'
    | 'uncertain'
    | 'claim_ended'
    | 'fingerprint_mismatch'
    | 'exhausted'
  lapsed: boolean
  inDoubt: boolean
  record: EffectRecord
}
export type ClaimReply =
  | ClaimedOrNot
  | { status: 'gated'; lapsed: boolean; record: EffectRecord | null }
  | { status: 'late' | 'over_budget' | 'absent_refused' }

export const effectClaim = defineScript({
  name: 'effect-claim',
  flags: [],
  keys: effectKeys,
  coalesced: true,
  args: [
    ...(['effect_id', 'deadline_us', 'floor_us', 'absent_refused', 'over_budget', 'gate'] as const),
    ...(['owner', 'claim', 'fingerprint', 'lease_ms', 'retention_ms', 'policy', 'max_attempts'] as const),
    ...(['job_type', 'durability', 'metadata', 'entity', 'has_result', 'result', 'wait'] as const),
    ...leaseClock,
  ],
  decode: ([status, , lapsed, inDoubt, fields]): ClaimReply => {
    if (status === 'late' || status === 'over_budget' || status === 'absent_refused') return { status }
    const record = fields === undefined ? null : decodeRecord(fields)
    if (status === 'gated') return { status, lapsed: lapsed === 1, record }
    assert(record)
    return { status: status as ClaimedOrNot['status'], lapsed: lapsed === 1, inDoubt: inDoubt === 1, record }
  },
})

/** What a report about a held effect is answered when it does not fit: the record, or none where it is unknown. */
type Misfit<Status extends string> = { status: Status; record: EffectRecord; nowUs: number }
type Absent = { status: 'deleted' | 'not_found' }

const absent = (status: string): status is Absent['status'] => status === 'deleted' || status === 'not_found'

/** `lapsed`: this call was the first to notice a silent holder. */
type Noticing = { lapsed: boolean }
/** `recovered`: the store had lost the grant that was reported about. */
type Recovering = { recovered: boolean }

export type CompleteReply =
  (Misfit<'completed' | 'completed_before' | 'stale' | 'failed' | 'settled_otherwise'> & Noticing & Recovering) | Absent

export const effectComplete = defineScript({
  name: 'effect-complete',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: ['effect_id', 'token', 'result', 'lost', 'clock_step'],
  decode: ([status, nowUs, record, lapsed, recovered]): CompleteReply => {
    if (absent(status)) return { status }
    const told = { lapsed: lapsed === 1, recovered: recovered === 1 }
    return { status: status as 'completed', nowUs, record: decodeRecord(record), ...told }
  },
})

type Settling<Status extends string> = Misfit<Status> & { replayed: boolean }

export type FailReply =
  | (Settling<'released' | 'failed' | 'uncertain' | 'stale' | 'already_settled' | 'settled_otherwise'> &
      Noticing &
      Recovering)
  | Absent

export const effectFail = defineScript({
  name: 'effect-fail',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: [
    'effect_id',
    'token',
    'call',
    'execution',
    'retryable',
    'max_attempts',
    'wait_ms',
    'error',
    'lost',
    'clock_step',
  ],
  decode: (reply): FailReply => {
    const settling = decodeSettling<'failed'>(reply)
    return 'record' in settling ? { ...settling, lapsed: reply[4] === 1, recovered: reply[5] === 1 } : settling
  },
})

export type ReleaseReply = Settling<'released' | 'stale' | 'lease_expired' | 'already_settled'> | Absent

export const effectRelease = defineScript({
  name: 'effect-release',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: ['effect_id', 'token', 'reason', ...leaseClock],
  decode: (reply): ReleaseReply => decodeSettling(reply),
})

function decodeSettling<Status extends string>([status, nowUs, replayed, record]: RawReply): Settling<Status> | Absent {
  if (absent(status)) return { status }
  return { status: status as Status, nowUs, replayed: replayed === 1, record: decodeRecord(record) }
}

export type RenewReply =
  (Misfit<'renewed' | 'stale' | 'lease_expired' | 'already_settled' | 'settled_otherwise'> & Recovering) | Absent

export const effectRenew = defineScript({
  name: 'effect-renew',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: ['effect_id', 'token', 'lease_ms', 'lost', ...leaseClock],
  decode: ([status, nowUs, record, recovered]): RenewReply =>
    absent(status)
      ? { status }
      : { status: status as 'renewed', nowUs, record: decodeRecord(record), recovered: recovered === 1 },
})

export type ResolveReply =
  | (Settling<'resolved'> & Noticing & { before: EffectRecord; history: EffectStep[] })
  | Misfit<'stale' | 'already_settled' | 'in_progress'>
  | { status: 'not_found' }

export const effectResolve = defineScript({
  name: 'effect-resolve',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: [
    ...(['effect_id', 'token', 'call', 'floor_us', 'resolution', 'uncertain_only', 'by', 'reason', 'body'] as const),
    ...leaseClock,
  ],
  decode: ([status, nowUs, replayed, fields, before, history, lapsed]): ResolveReply => {
    if (status === 'not_found') return { status }
    const record = decodeRecord(fields)
    if (status !== 'resolved') return { status: status as Misfit<'stale'>['status'], nowUs, record }
    const told = { before: decodeRecord(before), history: decodeSteps(history), lapsed: lapsed === 1 }
    return { status, nowUs, replayed: replayed === 1, record, ...told }
  },
})

export type DeleteReply = Misfit<'deleted' | 'not_settled' | 'stale'> | { status: 'not_found' }

export const effectDelete = defineScript({
  name: 'effect-delete',
  flags: ['allow-oom'],
  keys: effectKeys,
  args: ['effect_id', 'token', 'call', ...leaseClock],
  decode: ([status, nowUs, record]): DeleteReply =>
    status === 'not_found'
      ? { status }
      : { status: status as Misfit<'deleted'>['status'], nowUs, record: decodeRecord(record) },
})

export type ExpireReply = Misfit<'expired' | 'current'> | { status: 'gone' }

export const effectExpire = defineScript({
  name: 'effect-expire',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  args: ['effect_id', ...leaseClock],
  decode: ([status, nowUs, record]): ExpireReply =>
    status === 'gone'
      ? { status }
      : { status: status as Misfit<'expired'>['status'], nowUs, record: decodeRecord(record) },
})

export type ReadReply = (Misfit<'found'> & { history: EffectStep[] }) | { status: 'not_found' }

export const effectRead = defineScript({
  name: 'effect-read',
  flags: ['no-writes'],
  keys: ['effect'],
  coalesced: true,
  args: [],
  decode: ([status, nowUs, record, steps]): ReadReply =>
    status === 'found'
      ? { status, nowUs, record: decodeRecord(record), history: decodeSteps(steps) }
      : { status: 'not_found' },
})

/** An entry of the index: `score` is its exact text, for the cursor. */
export type IndexEntry = { effectId: string; score: string; record: EffectRecord }

export const effectList = defineScript({
  name: 'effect-list',
  flags: ['no-writes'],
  keys: ['inflight'],
  args: ['prefix', 'after_score', 'after_id', 'count'],
  decode: ([, nowUs, entries]): { nowUs: number; entries: IndexEntry[] } => ({
    nowUs,
    entries: (entries as [string, string, unknown][]).map(([effectId, score, record]) => ({
      ...{ effectId, score, record: decodeRecord(record) },
    })),
  }),
})

export const effectDue = defineScript({
  name: 'effect-due',
  flags: ['no-writes'],
  keys: 'many',
  args: ['count'],
  decode: ([, , effectIds]): string[] => effectIds as string[],
})

export type EffectCount = { type: string; state: 'in_progress' | 'uncertain'; count: number }

export const effectCount = defineScript({
  name: 'effect-count',
  flags: ['no-writes'],
  keys: ['inflight'],
  args: ['offset', 'count'],
  decode: ([, , scanned, counts]): { scanned: number; counts: EffectCount[] } => {
    const flat = counts as [string, EffectCount['state'], number][number][]
    const found: EffectCount[] = []
    for (let at = 0; at < flat.length; at += 3) {
      found.push({
        type: flat[at] as string,
        state: flat[at + 1] as EffectCount['state'],
        count: flat[at + 2] as number,
      })
    }
    return { scanned: scanned as number, counts: found }
  },
})
