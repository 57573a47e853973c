/** The scripts that act on effects: names for their keys and arguments, and the typed form of what they answer. */
import assert from 'node:assert/strict'
import { defineScript, type PackedFields, type RawReply } from '../redis/scripts.ts'
import { decodeRecord, decodeSteps, type EffectRecord, type EffectStep, type LeasePolicy } from './record.ts'

export type { EffectRecord, EffectState, EffectStep, LeasePolicy } from './record.ts'
export { effectStates } from './record.ts'

/** The fields of a reply: what is noted of its status, and the record, whose bytes begin at `at`; none where nothing follows. */
function fieldsOf(reply: RawReply) {
  const [, , notes, bytes, at] = reply as [string, number, ...PackedFields]
  return { notes, bytes, at, found: at < bytes.length }
}

function stepsOf(reply: RawReply): EffectStep[] {
  const { bytes, at } = fieldsOf(reply)
  return decodeSteps(bytes, at)
}

function recordOf(reply: RawReply): EffectRecord {
  const { bytes, at } = fieldsOf(reply)
  return decodeRecord(bytes, at)
}

const noted = ([, , notes]: RawReply, note: string): boolean => notes !== '' && (notes as string).includes(note)

/**
 * Arguments of the scripts that judge a lease. Where it cannot be told whether one is over they answer `'clock_unsure'`, and
 * the store looks at the clock and asks again.
 */
const leaseClock = ['clock_step', 'clock_max_us'] as const

const effectKeys = ['effect', 'inflight'] as const

/**
 * A claim that found, or made, a record. `lapsed`: it was the first to notice a silent holder; `inDoubt`: the attempt before
 * ended so; `deleted`: of what was there only the token and the past claims are known.
 */
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
  deleted: boolean
  record: EffectRecord
}
export type ClaimReply =
  | ClaimedOrNot
  | { status: 'gated'; lapsed: boolean; record: EffectRecord | null }
  | { status: 'late' | 'over_budget' | 'absent_refused' }

/** What claims that go out together mostly have in common: the script reads it once for all whose text is the same. */
export type ClaimTerms = {
  lease_ms: number
  retention_ms: number
  policy: LeasePolicy
  max_attempts: number
  job_type: string
  durability: string
  has_result: boolean
  /** The caller waits for the end of what is in progress. */
  wait: boolean
  /** Grant nothing, tell what would be granted. */
  gate: boolean
}

/** What is asked at each try, of the server that it goes to. */
export type ClaimGuards = { absent_refused: boolean; over_budget: boolean; clock_step: string }

/** Written out: JSON.stringify takes 3 µs for it. Only the job type is the caller's. */
export function claimTerms(terms: ClaimTerms, guards: ClaimGuards): string {
  const { lease_ms, retention_ms, policy, max_attempts, job_type, durability, has_result, wait, gate } = terms
  const { absent_refused, over_budget, clock_step } = guards
  const granted = `"lease_ms":${lease_ms},"retention_ms":${retention_ms},"policy":"${policy}","durability":"${durability}"`
  const job = `"max_attempts":${max_attempts},"job_type":${job_type === '' ? '""' : JSON.stringify(job_type)}`
  const asked = `"has_result":${has_result},"wait":${wait},"gate":${gate}`
  const guarded = `"absent_refused":${absent_refused},"over_budget":${over_budget},"clock_step":"${clock_step}"`
  return `{${granted},${job},${asked},${guarded}}`
}

export const effectClaim = defineScript({
  name: 'effect-claim',
  flags: [],
  keys: effectKeys,
  coalesced: true,
  bytes: true,
  args: [
    ...(['effect_id', 'deadline_us', 'floor_us', 'clock_max_us', 'owner', 'claim', 'fingerprint'] as const),
    ...(['metadata', 'entity', 'result', 'terms'] as const),
  ],
  decode: (reply): ClaimReply => {
    const [status] = reply
    if (status === 'late' || status === 'over_budget' || status === 'absent_refused') return { status }
    const record = fieldsOf(reply).found ? recordOf(reply) : null
    const lapsed = noted(reply, ',lapsed')
    if (status === 'gated') return { status, lapsed, record }
    assert(record)
    const told = { lapsed, inDoubt: noted(reply, ',in_doubt'), deleted: noted(reply, ',deleted') }
    return { status: status as ClaimedOrNot['status'], ...told, record }
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
  bytes: true,
  args: ['effect_id', 'token', 'result', 'lost', 'clock_step'],
  decode: (reply): CompleteReply => {
    const [status, nowUs] = reply
    if (absent(status)) return { status }
    const told = { lapsed: noted(reply, ',lapsed'), recovered: noted(reply, ',recovered') }
    return { status: status as 'completed', nowUs, record: recordOf(reply), ...told }
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
  bytes: true,
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
    const told = { lapsed: noted(reply, ',lapsed'), recovered: noted(reply, ',recovered') }
    return 'record' in settling ? { ...settling, ...told } : settling
  },
})

export type ReleaseReply = Settling<'released' | 'stale' | 'lease_expired' | 'already_settled'> | Absent

export const effectRelease = defineScript({
  name: 'effect-release',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  bytes: true,
  args: ['effect_id', 'token', 'reason', ...leaseClock],
  decode: (reply): ReleaseReply => decodeSettling(reply),
})

function decodeSettling<Status extends string>(reply: RawReply): Settling<Status> | Absent {
  const [status, nowUs] = reply
  if (absent(status)) return { status }
  return { status: status as Status, nowUs, replayed: noted(reply, ',replayed'), record: recordOf(reply) }
}

export type RenewReply =
  (Misfit<'renewed' | 'stale' | 'lease_expired' | 'already_settled' | 'settled_otherwise'> & Recovering) | Absent

export const effectRenew = defineScript({
  name: 'effect-renew',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  bytes: true,
  args: ['effect_id', 'token', 'lease_ms', 'lost', ...leaseClock],
  decode: (reply): RenewReply => {
    const [status, nowUs] = reply
    if (absent(status)) return { status }
    return { status: status as 'renewed', nowUs, record: recordOf(reply), recovered: noted(reply, ',recovered') }
  },
})

export type ResolveReply =
  | (Settling<'resolved'> & Noticing & { history: EffectStep[] })
  | Misfit<'stale' | 'already_settled' | 'in_progress'>
  | { status: 'not_found' }

export const effectResolve = defineScript({
  name: 'effect-resolve',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  bytes: true,
  args: [
    ...(['effect_id', 'token', 'call', 'floor_us', 'resolution', 'uncertain_only', 'by', 'reason', 'body'] as const),
    ...leaseClock,
  ],
  decode: (reply): ResolveReply => {
    const [status, nowUs] = reply
    if (status === 'not_found') return { status }
    const record = recordOf(reply)
    if (status !== 'resolved') return { status: status as Misfit<'stale'>['status'], nowUs, record }
    const told = { replayed: noted(reply, ',replayed'), lapsed: noted(reply, ',lapsed') }
    return { status, nowUs, record, history: stepsOf(reply), ...told }
  },
})

export type DeleteReply = Misfit<'deleted' | 'not_settled' | 'stale'> | { status: 'not_found' }

export const effectDelete = defineScript({
  name: 'effect-delete',
  flags: ['allow-oom'],
  keys: effectKeys,
  bytes: true,
  args: ['effect_id', 'token', 'call', ...leaseClock],
  decode: (reply): DeleteReply => {
    const [status, nowUs] = reply
    return status === 'not_found'
      ? { status }
      : { status: status as Misfit<'deleted'>['status'], nowUs, record: recordOf(reply) }
  },
})

export type ExpireReply = Misfit<'expired' | 'current'> | { status: 'gone' }

export const effectExpire = defineScript({
  name: 'effect-expire',
  flags: ['allow-oom'],
  keys: effectKeys,
  coalesced: true,
  bytes: true,
  args: ['effect_id', ...leaseClock],
  decode: (reply): ExpireReply => {
    const [status, nowUs] = reply
    return status === 'gone'
      ? { status }
      : { status: status as Misfit<'expired'>['status'], nowUs, record: recordOf(reply) }
  },
})

export type ReadReply = (Misfit<'found'> & { history: EffectStep[] }) | { status: 'not_found' }

export const effectRead = defineScript({
  name: 'effect-read',
  flags: ['no-writes'],
  keys: ['effect'],
  coalesced: true,
  bytes: true,
  args: [],
  decode: (reply): ReadReply => {
    const [status, nowUs] = reply
    return status === 'found'
      ? { status, nowUs, record: recordOf(reply), history: stepsOf(reply) }
      : { status: 'not_found' }
  },
})

/** An entry of the index: `score` is its exact text, for the cursor. */
export type IndexEntry = { effectId: string; score: string; record: EffectRecord }

export const effectList = defineScript({
  name: 'effect-list',
  flags: ['no-writes'],
  keys: ['inflight'],
  bytes: true,
  args: ['prefix', 'after_score', 'after_id', 'count'],
  decode: ([, nowUs, entries]): { nowUs: number; entries: IndexEntry[] } => ({
    nowUs,
    entries: (entries as [Buffer, Buffer, Buffer][]).map(([effectId, score, record]) => ({
      ...{ effectId: effectId.toString(), score: score.toString(), record: decodeRecord(record) },
    })),
  }),
})

export const effectDue = defineScript({
  name: 'effect-due',
  flags: ['no-writes'],
  keys: 'many',
  args: ['count', 'skip'],
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
