/** What a holder says about its attempt: complete, fail, release, renew. A stale holder changes nothing. */
import type { Classification, Execution } from '../failures/classify.ts'
import { RawJson, sameJsonValue } from '../json.ts'
import { invalidRequest, type Problem } from '../problems.ts'
import {
  type Context,
  digest,
  type EffectName,
  type FailureFacts,
  milliseconds,
  notFound,
  type RetryAdvice,
  staleToken,
} from './context.ts'
import { effectProblem, instant, leaseRemaining, type Subject } from './present.ts'
import * as scripts from './scripts.ts'
import type { EffectRecord } from './scripts.ts'

type Held = EffectName & { fencing_token: number }
export type CompleteRequest = Held & { result?: RawJson | undefined }
export type FailRequest = Held & { error: unknown; retryable?: boolean | undefined; execution?: Execution | undefined }
export type ReleaseRequest = Held & { reason?: string | undefined }
export type RenewRequest = Held & { lease_seconds?: number | undefined }

export type RetryBody = RetryAdvice & {
  not_before: string | null
  classification: Classification
  breaker: { state: string }
}

const replayedIf = (replayed: boolean): { replayed?: true } => (replayed ? { replayed } : {})

const alreadySettled = (subject: Subject, record: EffectRecord): Problem =>
  effectProblem('already-settled', `The effect, or this attempt of it, has ended: ${record.state}.`, subject, record)

const leaseExpired = (subject: Subject, record: EffectRecord): Problem =>
  effectProblem('lease-expired', 'The lease ran out before this call.', subject, record)

export function createReports(context: Context) {
  const { store, events } = context

  /** Where the effect is, and that its token is one that Redis can have granted. */
  async function held(namespace: string, request: Held) {
    const located = context.locate(namespace, request)
    return { located, subject: await context.subject(namespace, located.effectId) }
  }

  /** A token later than Redis's clock that no record explains was never granted. */
  function checkToken(token: number, record: EffectRecord | undefined, nowUs: number): void {
    if (token <= nowUs || (record && token <= record.token)) return
    throw invalidRequest([{ pointer: '/fencing_token', message: "is later than the store's clock" }])
  }

  function misfit(
    reply: { status: string; record?: EffectRecord; nowUs?: number },
    subject: Subject,
    token: number,
  ): Problem {
    const nowUs = reply.nowUs ?? subject.nowMs * 1000
    if (reply.status !== 'deleted') checkToken(token, reply.record, nowUs)
    if (reply.status === 'not_found') return notFound(subject)
    if (!reply.record) return staleToken(subject)
    if (reply.status === 'stale') return staleToken(subject, reply.record)
    if (reply.status === 'lease_expired') return leaseExpired(subject, reply.record)
    return alreadySettled(subject, reply.record)
  }

  /** Somebody reports an execution although another has taken over: perhaps the effect happened twice. */
  function suspectDouble({ namespace, effectId }: Subject, token: number, call: string): void {
    events.emit({ event: 'effect.late_completion', namespace, effect_id: effectId, fencing_token: token, call })
  }

  /** It happened: stores `result` (absent: null) for every later caller. */
  async function complete(namespace: string, request: CompleteRequest) {
    context.checkResult(request.result)
    const result = request.result ?? new RawJson('null')
    const token = request.fencing_token
    const { located, subject } = await held(namespace, request)
    const reply = await store.run(scripts.effectComplete, located.keys, {
      effect_id: located.effectId,
      token,
      result: result.text,
    })
    const record = 'record' in reply ? reply.record : undefined
    const same = record?.state === 'completed' && sameJsonValue(record.body, result.text)
    if (record && (reply.status === 'completed' || (reply.status === 'completed_before' && same))) {
      return {
        outcome: 'completed' as const,
        effect_id: located.effectId,
        attempt: record.attempt,
        completed_at: instant(record.updatedAt),
        ...replayedIf(reply.status === 'completed_before'),
      }
    }
    if (record && reply.status === 'completed_before') {
      throw effectProblem('result-conflict', 'The effect was completed with another result.', subject, record)
    }
    const problem = misfit(reply, subject, token)
    if (problem.slug !== 'effect-not-found' && !same) suspectDouble(subject, token, 'complete')
    throw problem
  }

  /** What the failure means, for the record as it stands. */
  function judge(request: FailRequest, record: EffectRecord, type: string, nowMs: number) {
    const classification = context.classify(request.error, nowMs)
    const facts: FailureFacts = {
      attempt: record.attempt,
      maxAttempts: context.maxAttempts(type, record.jobType === '' ? null : record.jobType),
      execution: request.execution ?? classification.execution,
      retryable: request.retryable ?? classification.retryable,
      hold: record.policy === 'hold',
      classification,
    }
    return { facts, advice: context.advise(facts) }
  }

  function failedBody(
    { effectId }: Subject,
    reply: { record: EffectRecord; replayed: boolean },
    { facts, advice }: ReturnType<typeof judge>,
  ) {
    const { record, replayed } = reply
    // Doubt about an earlier attempt can make an effect uncertain although this attempt is clear.
    const doubtful = record.state === 'uncertain' && advice.reason !== 'reconcile_first'
    const retry: RetryBody = {
      ...(doubtful ? { ...advice, retry: false, reason: 'reconcile_first', wait_seconds: null } : advice),
      not_before: instant(record.notBefore),
      classification: facts.classification,
      breaker: { state: 'closed' },
    }
    return {
      outcome: record.state,
      effect_id: effectId,
      attempt: record.attempt,
      classification: facts.classification,
      retry,
      ...replayedIf(replayed),
    }
  }

  /** It did not happen, or nobody knows: `released`, `failed` or `uncertain`. */
  async function fail(namespace: string, request: FailRequest) {
    const { located, subject } = await held(namespace, request)
    const token = request.fencing_token
    // Read first: the advice needs the attempt. The token guarantees that the script meets the same attempt.
    const error = context.keepError(request.error)
    const seen = await store.run(scripts.effectRead, [located.keys[0]], {})
    const verdict = seen.status === 'found' ? judge(request, seen.record, located.type, subject.nowMs) : undefined
    const reply = await store.run(scripts.effectFail, located.keys, {
      effect_id: located.effectId,
      token,
      call: digest(error, request.retryable, request.execution),
      execution: verdict?.facts.execution ?? 'unknown',
      retryable: verdict?.facts.retryable ? '1' : '',
      max_attempts: verdict?.facts.maxAttempts ?? 0,
      wait_ms: milliseconds(verdict?.advice.wait_seconds ?? 0),
      error,
    })
    const accepted = reply.status === 'released' || reply.status === 'failed' || reply.status === 'uncertain'
    if (!accepted || !verdict) {
      const problem = misfit(reply, subject, token)
      const execution = request.execution ?? context.classify(request.error, subject.nowMs).execution
      if (problem.slug === 'stale-token' && execution !== 'no') suspectDouble(subject, token, 'fail')
      throw problem
    }
    if (reply.status === 'uncertain' && !reply.replayed) context.tellUncertain(subject, reply.record, 'reported')
    return failedBody(subject, reply, verdict)
  }

  /** Gives the claim back unused; the attempt does not count. */
  async function release(namespace: string, request: ReleaseRequest) {
    const { located, subject } = await held(namespace, request)
    const reply = await store.run(scripts.effectRelease, located.keys, {
      effect_id: located.effectId,
      token: request.fencing_token,
      reason: request.reason ?? '',
    })
    if (reply.status !== 'released') throw misfit(reply, subject, request.fencing_token)
    return {
      outcome: 'released' as const,
      effect_id: located.effectId,
      attempt: reply.record.attempt,
      ...replayedIf(reply.replayed),
    }
  }

  /** Heartbeat: the lease lasts `lease_seconds` (default: as claimed) from now, or longer if it did already. */
  async function renew(namespace: string, request: RenewRequest) {
    const { located, subject } = await held(namespace, request)
    const reply = await store.run(scripts.effectRenew, located.keys, {
      effect_id: located.effectId,
      token: request.fencing_token,
      lease_ms: request.lease_seconds === undefined ? '' : milliseconds(request.lease_seconds),
    })
    if (reply.status !== 'renewed') throw misfit(reply, subject, request.fencing_token)
    const { nowMs } = await context.subject(namespace, located.effectId)
    return {
      outcome: 'renewed' as const,
      effect_id: located.effectId,
      lease_expires_at: instant(reply.record.leaseExpiresAt),
      lease_remaining_seconds: leaseRemaining(reply.record, nowMs),
    }
  }

  return { complete, fail, release, renew }
}
