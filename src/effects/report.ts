/** What a holder says about its attempt: complete, fail, release, renew. A stale holder changes nothing. */
import type { Classification, Execution } from '../failures/classify.ts'
import type { Actor } from '../auth.ts'
import { secondsUntil } from '../instant.ts'
import { RawJson, sameJsonValue } from '../json.ts'
import { invalidRequest, type Problem } from '../problems.ts'
import {
  type Context,
  digest,
  durabilityName,
  type EffectName,
  type FailureFacts,
  type Located,
  milliseconds,
  notFound,
  type RetryAdvice,
  staleToken,
} from './context.ts'
import { leaseClock, type Witness } from '../redis/witness.ts'
import { reference } from './identity.ts'
import type { BreakerRefusal } from './jobs.ts'
import { effectProblem, instant, leaseRemaining, type Subject } from './present.ts'
import * as scripts from './scripts.ts'
import type { EffectRecord } from './scripts.ts'

type Held = EffectName & { fencing_token: number }
/** `reference`: the grant's, which shows that there was one where the store has lost it. */
type Granted = Held & { reference?: string | undefined }
export type CompleteRequest = Granted & { result?: RawJson | undefined }
export type FailRequest = Granted & {
  error: unknown
  retryable?: boolean | undefined
  execution?: Execution | undefined
  job_type?: string | undefined
}
export type ReleaseRequest = Held & { reason?: string | undefined }
export type RenewRequest = Granted & { lease_seconds?: number | undefined }

export type RetryBody = RetryAdvice & {
  not_before: string | null
  classification: Classification
  breaker: { state: string }
}

const recoveredIf = (recovered: boolean): { recovered?: true } => (recovered ? { recovered } : {})
const replayedIf = (replayed: boolean): { replayed?: true } => (replayed ? { replayed } : {})

const alreadySettled = (subject: Subject, record: EffectRecord): Problem =>
  effectProblem('already-settled', `The effect, or this attempt of it, has ended: ${record.state}.`, subject, record)

const leaseExpired = (subject: Subject, record: EffectRecord): Problem =>
  effectProblem('lease-expired', 'The lease ran out before this call.', subject, record)

/** Where the effect is, and the latest instant at which its token can have been granted. */
async function held(context: Context, namespace: string, request: Held) {
  const located = context.locate(namespace, request)
  const known = context.subject(namespace, located)
  const subject = known instanceof Promise ? await known : known
  // The clock of the server before may have been ahead of this one's.
  const changedUs = context.store.witness(located.keys[0])?.changedUs() ?? 0
  return { located, subject, token: { token: request.fencing_token, changedUs } }
}

type Token = { token: number; changedUs: number }

/**
 * What the script needs where it finds that the store has lost the grant: `''` unless the reference shows that there was
 * one, and the token that it is from before the last change of the server.
 */
function lostGrant(context: Context, namespace: string, located: Located, request: Granted, by: string) {
  const { effectId, type, entity } = located
  if (request.reference === undefined || request.reference !== reference(namespace, effectId)) return ''
  const { retention_seconds, lease_seconds } = context.defaults(type)
  const known = JSON.stringify({
    by,
    retention_ms: milliseconds(retention_seconds),
    lease_ms: milliseconds(lease_seconds),
    durability: durabilityName(context.durability(type)),
    entity: entity === undefined ? '' : JSON.stringify(entity),
  })
  return ({ changedUs }: Witness): string => (request.fencing_token <= changedUs() ? known : '')
}

/** A token later than Redis's clock that no record explains was never granted. */
function checkToken(token: number, record: EffectRecord | undefined, nowUs: number): void {
  if (token <= nowUs || (record && token <= record.token)) return
  throw invalidRequest([{ pointer: '/fencing_token', message: "is later than the store's clock" }])
}

function misfit(
  reply: { status: string; record?: EffectRecord; nowUs?: number },
  subject: Subject,
  { token, changedUs }: Token,
): Problem {
  const nowUs = Math.max(reply.nowUs ?? subject.nowMs * 1000, changedUs)
  if (reply.status !== 'deleted') checkToken(token, reply.record, nowUs)
  if (reply.status === 'not_found') return notFound(subject)
  if (!reply.record) return staleToken(subject, null)
  if (reply.status === 'settled_otherwise' && reply.record.state === 'completed') {
    return effectProblem('result-conflict', 'Another attempt has completed the effect.', subject, reply.record)
  }
  if (reply.status === 'stale') return staleToken(subject, reply.record)
  if (reply.status === 'lease_expired') return leaseExpired(subject, reply.record)
  return alreadySettled(subject, reply.record)
}

/** Somebody reports an execution although another has taken over: perhaps the effect happened twice. */
async function suspectDouble(
  context: Context,
  { namespace, effectId }: Subject,
  call: 'complete' | 'fail' | 'renew',
  report: { token: number; reported: RawJson; actor: Actor; record: EffectRecord | undefined },
): Promise<void> {
  const { token, reported, actor, record } = report
  context.events.emit({ event: 'effect.late_completion', namespace, effect_id: effectId, fencing_token: token, call })
  const before = record ? { state: record.state, fencing_token: record.token, owner: record.owner } : null
  const said = { reason: `${call} with token ${token}`, before, evidence: reported }
  const entry = { action: 'effect.late_completion' as const, subject: effectId, ...actor, ...said }
  await context.audit
    .append(namespace, entry)
    .catch((error: unknown) => context.log.error({ err: error, ...entry, evidence: null }, 'not in the audit'))
}

/** Tells the world where the report was the first that this store heard of the grant. */
function tellRecovered(
  { events }: Context,
  { namespace, effectId }: Subject,
  { token }: EffectRecord,
  call: string,
  recovered: boolean,
): void {
  if (!recovered) return
  events.emit({ event: 'effect.record_recovered', namespace, effect_id: effectId, fencing_token: token, call })
}

/** It happened: stores `result` (absent: null) for every later caller. */
export async function complete(context: Context, namespace: string, request: CompleteRequest, actor: Actor) {
  context.checkResult(request.result)
  const result = request.result ?? new RawJson('null')
  const { located, subject, token } = await held(context, namespace, request)
  const reply = await context.runDurably(located, scripts.effectComplete, {
    effect_id: located.effectId,
    token: token.token,
    result: result.text,
    clock_step: leaseClock.clock_step,
    lost: lostGrant(context, namespace, located, request, actor.user),
  })
  const record = 'record' in reply ? reply.record : undefined
  const told = record && reply.status !== 'settled_otherwise' && reply.status !== 'completed'
  const same = told && record.state === 'completed' && sameJsonValue(record.body, result.text)
  if (record && (reply.status === 'completed' || (reply.status === 'completed_before' && same))) {
    context.tellLapsed(subject, record, reply.lapsed)
    tellRecovered(context, subject, record, 'complete', reply.recovered && reply.status === 'completed')
    await context.jobs.completed(subject, record)
    return {
      outcome: 'completed' as const,
      effect_id: located.effectId,
      attempt: record.attempt,
      completed_at: instant(record.updatedAt),
      ...recoveredIf(reply.recovered),
      ...replayedIf(reply.status === 'completed_before'),
    }
  }
  if (record && reply.status === 'completed_before') {
    throw effectProblem('result-conflict', 'The effect was completed with another result.', subject, record)
  }
  const problem = misfit(reply, subject, token)
  if (problem.status === 409 && !same) {
    await suspectDouble(context, subject, 'complete', { token: token.token, reported: result, actor, record })
  }
  throw problem
}

type Verdict = { facts: FailureFacts; advice: RetryAdvice }

/** A hold ends by itself: unlike an open breaker it does not refuse a retry, it says when. */
const holdEndMs = (refusal: BreakerRefusal | undefined): number =>
  refusal?.reason === 'hold' ? Date.parse(refusal.hold_until ?? '') : 0

/** What the failure means, for the record as it stands; records nothing. */
async function judge(
  context: Context,
  request: FailRequest,
  record: EffectRecord,
  type: string,
  subject: Subject,
): Promise<Verdict> {
  const classification = context.classify(request.error, subject.nowMs)
  const jobType = record.jobType === '' ? (request.job_type ?? null) : record.jobType
  const breaker = jobType === null ? undefined : await context.jobs.view(subject.namespace, jobType)
  const facts: FailureFacts = {
    attempt: record.attempt,
    maxAttempts: context.maxAttempts(type, jobType),
    execution: request.execution ?? classification.execution,
    retryable: request.retryable ?? classification.retryable,
    hold: record.policy === 'hold',
    classification,
    jobType,
    circuitOpen: breaker?.verdict === 'refuse' && breaker.refusal?.reason !== 'hold',
    holdSeconds: secondsUntil(holdEndMs(breaker?.refusal), subject.nowMs),
    budgetSpent: jobType !== null && (await context.jobs.budgetSpent(subject.namespace, jobType)),
  }
  return { facts, advice: context.advise(facts) }
}

/** Feeds breaker and retry metrics, and advises with the breaker as it is now. */
async function tellJobs(context: Context, subject: Subject, record: EffectRecord, { facts, advice }: Verdict) {
  const { jobType, classification } = facts
  if (jobType === null) return { advice, state: 'closed', holdUntilMs: 0 }
  const after = await context.jobs.failed(subject, record, jobType, classification)
  const { state, holdUntilMs } = after ?? { state: 'closed', holdUntilMs: 0 }
  const holdSeconds = secondsUntil(holdUntilMs, subject.nowMs)
  const now = after ? context.advise({ ...facts, circuitOpen: after.refuses, holdSeconds }) : advice
  const told = now.retry && advice.retry ? waitingFor(advice, holdSeconds) : now
  if (!told.retry) context.jobs.blocked(subject.namespace, jobType, `${subject.effectId}:${record.token}`, told.reason)
  return { advice: told, state, holdUntilMs }
}

/** The same advice, but not before a hold ends that this failure may have put on the breaker itself. */
const waitingFor = (advice: RetryAdvice, holdSeconds: number): RetryAdvice => ({
  ...advice,
  wait_seconds: Math.max(advice.wait_seconds ?? 0, holdSeconds),
})

/** Doubt about an earlier attempt makes an effect uncertain although this attempt is clear: then look first. */
function doubted(context: Context, record: EffectRecord, { facts, advice }: Verdict): Verdict {
  if (record.state !== 'uncertain' || advice.reason === 'reconcile_first') return { facts, advice }
  const unclear: FailureFacts = { ...facts, execution: 'partial' }
  return { facts: unclear, advice: context.advise(unclear) }
}

async function failedBody(
  context: Context,
  subject: Subject,
  record: EffectRecord,
  { replayed, recovered }: { replayed: boolean; recovered: boolean },
  judged: Verdict,
) {
  const verdict = doubted(context, record, judged)
  const { advice, state, holdUntilMs } = await tellJobs(context, subject, record, verdict)
  const { classification, jobType } = verdict.facts
  const { state: outcome, attempt, owner } = record
  const { effectId: effect_id, namespace } = subject
  const { failure_type, execution, code, exchange, market, rule } = classification
  if (!replayed) {
    context.decided({
      ...{ at: new Date(subject.nowMs).toISOString(), namespace, job_type: jobType, attempt, effect_id, owner },
      ...{ event_id: null, ...advice, breaker_state: state },
      ...{ failure_type, execution, code, exchange, market, rule },
    })
  }
  const not_before = advice.retry ? instant(Math.max(record.notBefore, holdUntilMs)) : null
  const retry: RetryBody = { ...advice, not_before, classification, breaker: { state } }
  return { outcome, effect_id, attempt, classification, retry, ...recoveredIf(recovered), ...replayedIf(replayed) }
}

/** It did not happen, or nobody knows: `released`, `failed` or `uncertain`. */
export async function fail(context: Context, namespace: string, request: FailRequest, actor: Actor) {
  const { located, subject, token } = await held(context, namespace, request)
  const error = context.keepError(request.error)
  // Read first: the advice needs the attempt. The token guarantees that the script meets the same attempt.
  const seen = await context.store.run(scripts.effectRead, [located.keys[0]], {})
  const judged = seen.status === 'found' ? await judge(context, request, seen.record, located.type, subject) : undefined
  const execution =
    judged?.facts.execution ?? request.execution ?? context.classify(request.error, subject.nowMs).execution
  const reply = await context.runDurably(located, scripts.effectFail, {
    effect_id: located.effectId,
    token: token.token,
    call: digest(error, request.retryable, request.execution),
    execution,
    retryable: judged?.facts.retryable ? '1' : '',
    max_attempts: judged?.facts.maxAttempts ?? 0,
    wait_ms: milliseconds(judged?.advice.wait_seconds ?? 0),
    error,
    clock_step: leaseClock.clock_step,
    lost: lostGrant(context, namespace, located, request, actor.user),
  })
  const accepted = reply.status === 'released' || reply.status === 'failed' || reply.status === 'uncertain'
  if (!accepted) {
    const problem = misfit(reply, subject, token)
    const late = problem.slug === 'stale-token' && execution !== 'no'
    if (late || reply.status === 'settled_otherwise') {
      const record = 'record' in reply ? reply.record : undefined
      await suspectDouble(context, subject, 'fail', {
        token: token.token,
        reported: new RawJson(error),
        ...{ actor, record },
      })
    }
    throw problem
  }
  const { recovered, replayed } = reply
  // The record that was read was of an attempt before, or there was none.
  const verdict = recovered || !judged ? await judge(context, request, reply.record, located.type, subject) : judged
  tellRecovered(context, subject, reply.record, 'fail', recovered && !replayed)
  const told = context.tellLapsed(subject, reply.record, reply.lapsed)
  const uncertainNow = reply.status === 'uncertain' && !reply.replayed
  if (uncertainNow && !told) context.tellUncertain(subject, reply.record, 'reported')
  return failedBody(context, subject, reply.record, { replayed, recovered }, verdict)
}

/** Gives the claim back unused; the attempt does not count. */
export async function release(context: Context, namespace: string, request: ReleaseRequest) {
  const { located, subject, token } = await held(context, namespace, request)
  const reply = await context.runDurably(located, scripts.effectRelease, {
    effect_id: located.effectId,
    token: token.token,
    reason: request.reason ?? '',
    ...leaseClock,
  })
  if (reply.status !== 'released') throw misfit(reply, subject, token)
  await context.jobs.released(subject, reply.record)
  return {
    outcome: 'released' as const,
    effect_id: located.effectId,
    attempt: reply.record.attempt,
    ...replayedIf(reply.replayed),
  }
}

/** Heartbeat: the lease lasts `lease_seconds` (default: as claimed) from now, or longer if it did already. */
export async function renew(context: Context, namespace: string, request: RenewRequest, actor: Actor) {
  const { located, subject, token } = await held(context, namespace, request)
  const reply = await context.runDurably(located, scripts.effectRenew, {
    effect_id: located.effectId,
    token: token.token,
    lease_ms: request.lease_seconds === undefined ? '' : milliseconds(request.lease_seconds),
    ...leaseClock,
    lost: lostGrant(context, namespace, located, request, actor.user),
  })
  if (reply.status === 'settled_otherwise') {
    const report = { token: token.token, reported: new RawJson('null'), actor, record: reply.record }
    await suspectDouble(context, subject, 'renew', report)
  }
  if (reply.status !== 'renewed') throw misfit(reply, subject, token)
  tellRecovered(context, subject, reply.record, 'renew', reply.recovered)
  const now = await context.subject(namespace, located)
  await context.jobs.renewed(now, reply.record)
  return {
    outcome: 'renewed' as const,
    effect_id: located.effectId,
    lease_expires_at: instant(reply.record.leaseExpiresAt),
    lease_remaining_seconds: leaseRemaining(reply.record, now.nowMs),
    ...recoveredIf(reply.recovered),
  }
}
