/** Asks to execute an effect. The answer says go, here is the result, or not now. */
import { randomBytes } from 'node:crypto'
import type { RawJson } from '../json.ts'
import { limits } from '../limits.ts'
import { invalidRequest, Problem } from '../problems.ts'
import type { RedisClock } from '../redis/clock.ts'
import { absentRefused, durabilityNotReached, storeUnavailable } from '../redis/refusals.ts'
import { leaseClock, type Witness } from '../redis/witness.ts'
import {
  type Context,
  digest,
  durabilityName,
  type EffectName,
  type Located,
  milliseconds,
  type TypePolicy,
} from './context.ts'
import { fingerprintOf } from './identity.ts'
import { type BreakerRefusal, circuitOpen } from './jobs.ts'
import {
  effectProblem,
  grantBody,
  inProgressProblem,
  outcomeBody,
  packFingerprint,
  shadowBody,
  type Subject,
  uncertainProblem,
} from './present.ts'
import {
  type ClaimReply,
  type ClaimTerms,
  claimTerms,
  effectClaim,
  effectRelease,
  type EffectRecord,
  type LeasePolicy,
} from './scripts.ts'

export type ClaimRequest = EffectName & {
  owner: string
  claim_id?: string | undefined
  payload?: unknown
  fingerprint?: string | undefined
  lease_seconds?: number | undefined
  retention_seconds?: number | undefined
  on_lease_expiry?: LeasePolicy | undefined
  job_type?: string | undefined
  probe_id?: string | undefined
  metadata?: Record<string, string> | undefined
  result?: RawJson | undefined
  /** Where another holds the effect, whoever ends that shall tell: the caller waits for it. */
  awaits?: boolean
}

/** A grant (201), or the outcome that is stored already (200). */
export type ClaimAnswer =
  | { granted: true; body: ReturnType<typeof grantBody> | ReturnType<typeof shadowBody> }
  | { granted: false; body: ReturnType<typeof outcomeBody> }

/** A reply that found or made a record. */
type Decided = Extract<ClaimReply, { inDoubt: boolean }>

/** One claim on its way; `startMs` is of the process's own clock. */
type Claiming = {
  context: Context
  namespace: string
  located: Located
  request: ClaimRequest
  policy: TypePolicy
  clock: RedisClock
  startMs: number
}

/** A claim without `claim_id` still carries a nonce, so that the service may send it again itself. */
const nonce = (): string => randomBytes(17).toString('base64url').slice(0, 22)

function fingerprintArgument({ fingerprint, payload }: ClaimRequest): string {
  if (fingerprint !== undefined) return packFingerprint(fingerprint)
  return payload === undefined ? '' : packFingerprint(fingerprintOf(payload))
}

function checkPolicy(request: ClaimRequest, policy: TypePolicy): void {
  if (request.on_lease_expiry !== 'reclaim' || policy.on_lease_expiry === 'reclaim' || policy.allow_reclaim) return
  throw invalidRequest([{ pointer: '/on_lease_expiry', message: 'this effect type does not allow reclaim' }])
}

const metadataText = ({ metadata }: ClaimRequest): string => (metadata === undefined ? '' : JSON.stringify(metadata))

const leaseMs = ({ lease_seconds }: ClaimRequest, policy: TypePolicy): number =>
  milliseconds(lease_seconds ?? policy.lease_seconds)

/** The script's words that callers know by another. */
const outcomes: Partial<Record<ClaimReply['status'], string>> = {
  completed_now: 'completed',
  completed_again: 'completed',
  replayed: 'claimed',
  over_budget: 'memory_budget_exceeded',
  gated: 'circuit_open',
}
const outcomeOf = ({ status }: ClaimReply): string => outcomes[status] ?? status

/** What the caller acts upon: the write that it rests on, ours or another's, must be kept. */
const restsOnWrites: ReadonlySet<ClaimReply['status']> = new Set([
  ...(['claimed', 'replayed', 'completed_now', 'completed_again'] as const),
  ...(['completed', 'failed', 'exhausted'] as const),
])

/** The script's words that give the effect to the caller. */
const grants: ReadonlySet<ClaimReply['status']> = new Set(['claimed', 'replayed', 'completed_now', 'completed_again'])

function refusal(status: string, subject: Subject, record: EffectRecord, deleted = false): Problem {
  switch (status) {
    case 'fingerprint_mismatch':
      return effectProblem('fingerprint-mismatch', 'The effect is known with another fingerprint.', subject, record)
    case 'claim_ended':
      return effectProblem('claim-ended', 'This claim_id was granted before.', subject, deleted ? null : record)
    case 'in_progress':
      return inProgressProblem(subject, record)
    default:
      return uncertainProblem(subject, record)
  }
}

/** `named`: the caller sent a claim_id; without one only this very request can have been granted before. */
function answer(subject: Subject, { status, record, deleted }: Decided, named: boolean): ClaimAnswer {
  switch (status) {
    case 'claimed':
    case 'completed_now':
      return { granted: true, body: grantBody(subject, record, false) }
    case 'replayed':
    case 'completed_again':
      return { granted: true, body: grantBody(subject, record, named) }
    case 'completed':
    case 'failed':
      return { granted: false, body: outcomeBody(subject, record, true) }
    case 'exhausted':
      if (record.state === 'failed') return { granted: false, body: outcomeBody(subject, record, false) }
      throw refusal('uncertain', subject, record)
    default:
      throw refusal(status, subject, record, deleted)
  }
}

function overBudget({ memory }: Context): Problem {
  const { used_bytes, budget_bytes } = memory()
  return new Problem('memory-budget-exceeded', 'New effects are refused.', { used_bytes, budget_bytes })
}

const refuseAbsent = ({ store, durability }: Context, { keys, type }: Located): Problem =>
  absentRefused(store.witness(keys[0])?.refusesAbsent(durability(type)))

/** Tells the world what this claim was the first to notice. */
function tell(context: Context, subject: Subject, { record, lapsed, inDoubt, status }: Decided): void {
  if (inDoubt) {
    const { owner, attempt } = record
    const { namespace, effectId } = subject
    context.events.emit({ event: 'effect.reclaimed', namespace, effect_id: effectId, owner, attempt })
  }
  if (record.state !== 'uncertain') return
  if (lapsed) context.tellUncertain(subject, record, 'lease_expired')
  else if (status === 'exhausted') context.tellUncertain(subject, record, 'attempts_exhausted')
}

/**
 * A grant that too few copies hold is not given. With a `claim_id` it waits for the same call to come again; without one
 * nobody can collect it, so it is given back.
 */
async function withdraw(context: Context, located: Located, request: ClaimRequest, reply: ClaimReply): Promise<never> {
  // `replayed`: the first answer was lost, and the store asked again.
  const ours = reply.status === 'claimed' || reply.status === 'replayed'
  if (ours && request.claim_id === undefined) {
    const args = {
      effect_id: located.effectId,
      token: reply.record.token,
      reason: 'durability-not-reached',
      ...leaseClock,
    }
    await context.store
      .run(effectRelease, located.keys, args)
      .catch((error: unknown) =>
        context.log.warn({ err: error, effect_id: located.effectId }, 'a claim stays until its lease ends'),
      )
  }
  throw durabilityNotReached(context.durability(located.type))
}

/** What the script is told; whoever sends it sets `gate` of the terms. */
function argumentsOf({ context, located, request, policy, clock, startMs }: Claiming) {
  const { memory } = context
  const { effectId: effect_id, type, entity } = located
  const { job_type, result } = request
  const durability = context.durability(type)
  const onExpiry = request.on_lease_expiry ?? policy.on_lease_expiry
  // In shadow mode nobody waits for our word.
  const strict = onExpiry === 'hold' && policy.mode !== 'shadow'
  const terms: ClaimTerms = {
    lease_ms: leaseMs(request, policy),
    retention_ms: milliseconds(request.retention_seconds ?? policy.retention_seconds),
    policy: onExpiry,
    max_attempts: context.maxAttempts(type, job_type ?? null),
    job_type: job_type ?? '',
    durability: durabilityName(durability),
    has_result: result !== undefined,
    wait: request.awaits ?? false,
    gate: false,
  }
  const args = {
    effect_id,
    // From the first try on, so that nobody is granted anything behind the answer that gave up.
    deadline_us: () => clock.nowUs() + Math.round((limits.claimGrantMs + startMs - performance.now()) * 1000),
    // A connection that is new is looked at first, and tells how far the clock of another server was.
    floor_us: () => clock.floorUs(),
    clock_max_us: leaseClock.clock_max_us,
    owner: request.owner,
    claim: request.claim_id === undefined ? nonce() : digest(request.owner, request.claim_id),
    fingerprint: fingerprintArgument(request),
    metadata: metadataText(request),
    entity: entity === undefined ? '' : JSON.stringify(entity),
    result: result?.text ?? '',
    terms: (witness: Witness) =>
      claimTerms(terms, {
        absent_refused: strict && witness.refusesAbsent(durability) !== undefined,
        over_budget: memory().over,
        clock_step: witness.clockStep(),
      }),
  }
  return { terms, args }
}

/** One claim, ready to be sent as often as needed; `gate` asks what would be granted, and grants nothing. */
function prepare(claiming: Claiming) {
  const { context, located, request } = claiming
  const { terms, args } = argumentsOf(claiming)
  const durability = context.durability(located.type)
  return async function send(gate: boolean, again = true): Promise<ClaimReply> {
    terms.gate = gate
    const { reply, reached } = await context.store.runTelling(effectClaim, located.keys, args, durability)
    if (!reached && restsOnWrites.has(reply.status)) await withdraw(context, located, request, reply)
    // Late: Redis's clock has stepped forward, and the reply has told us its time.
    return reply.status === 'late' && again ? send(gate, false) : reply
  }
}

type Send = ReturnType<typeof prepare>
type Meeting = { reply: ClaimReply; refused?: BreakerRefusal }

/**
 * A half-open breaker: takes a permit once the effect is known to be claimable, and gives it back if the grant fails. Until
 * then it has a name of its own: of two who claim one effect at a time, the loser would give back the winner's.
 */
async function askBreaker({ context, namespace, located, request, policy }: Claiming, jobType: string, send: Send) {
  const { jobs } = context
  const reply = await send(true)
  if (reply.status !== 'gated') return { reply }
  const { probe_id } = request
  const lease_ms = leaseMs(request, policy)
  const permit = nonce()
  const taken = await jobs.take(namespace, jobType, {
    permit,
    lease_ms,
    ...(probe_id === undefined ? {} : { probe_id }),
  })
  if (!taken.allowed) return { reply, refused: taken.refusal }
  let granted = false
  try {
    const claimed = await send(false)
    granted = grants.has(claimed.status)
    return { reply: claimed }
  } finally {
    if (granted) await jobs.keep(namespace, jobType, { permit: located.effectId, lease_ms, probe_id: permit })
    else await jobs.giveBack(namespace, jobType, permit)
  }
}

/** Sends the claim past its breaker: a closed one costs no further round trip. */
async function meetBreaker(claiming: Claiming, jobType: string): Promise<Meeting> {
  const send = prepare(claiming)
  const { verdict, refusal: refused } = await claiming.context.jobs.view(claiming.namespace, jobType)
  if (verdict === 'pass') return { reply: await send(false) }
  if (verdict === 'ask') return askBreaker(claiming, jobType, send)
  const reply = await send(true)
  return reply.status === 'gated' && refused ? { reply, refused } : { reply }
}

function refusedByBreaker(
  context: Context,
  subject: Subject,
  { reply, refused }: Meeting,
  request: ClaimRequest,
): Problem {
  if (reply.status === 'late') return storeUnavailable('outcome_unknown')
  if (reply.status !== 'gated' || !refused || request.job_type === undefined) return storeUnavailable('busy')
  context.jobs.blocked(subject.namespace, request.job_type, nonce(), 'circuit_open')
  return circuitOpen(subject, reply.record, request.job_type, refused)
}

/** A lease from before a step of the clock ends later than its record says. */
function asMoved({ store }: Context, { keys }: Located, reply: Decided): Decided {
  if (reply.status !== 'in_progress') return reply
  const { record } = reply
  const movedMs = store.witness(keys[0])?.leaseMovedMs(record.updatedAt) ?? 0
  return movedMs === 0 ? reply : { ...reply, record: { ...record, leaseExpiresAt: record.leaseExpiresAt + movedMs } }
}

/** Claims an effect for `request.owner`. Every row of the claim table that is neither 201 nor 200 is thrown as its problem. */
export async function claim(context: Context, namespace: string, request: ClaimRequest): Promise<ClaimAnswer> {
  const located = context.locate(namespace, request)
  const policy = context.typePolicy(located.type)
  checkPolicy(request, policy)
  context.checkResult(request.result)
  const startMs = performance.now()
  const clock = context.store.knownClock(located.keys[0]) ?? (await context.store.clock(located.keys[0]))
  const claiming = { context, namespace, located, request, policy, clock, startMs }
  const { job_type } = request
  const meeting =
    job_type === undefined ? { reply: await prepare(claiming)(false) } : await meetBreaker(claiming, job_type)
  const { reply } = meeting
  // Whoever waits is counted when the wait has ended.
  if (!request.awaits || reply.status !== 'in_progress') context.observe.claim(located.type, outcomeOf(reply))
  const known = context.subject(namespace, located)
  const subject = known instanceof Promise ? await known : known
  if (reply.status === 'absent_refused') throw refuseAbsent(context, located)
  if (reply.status === 'over_budget') throw overBudget(context)
  if (!('inDoubt' in reply)) throw refusedByBreaker(context, subject, meeting, request)
  tell(context, subject, reply)
  if (grants.has(reply.status)) context.jobs.granted(subject, reply.record)
  else if (policy.mode === 'shadow') {
    const asked = { leaseMs: leaseMs(request, policy), metadata: metadataText(request) }
    return { granted: true, body: shadowBody(subject, reply.record, asked, outcomeOf(reply)) }
  }
  if (reply.status === 'completed_now') await context.jobs.completed(subject, reply.record)
  return answer(subject, asMoved(context, located, reply), request.claim_id !== undefined)
}
