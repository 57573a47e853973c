/** Asks to execute an effect. The answer says go, here is the result, or not now. */
import { randomBytes } from 'node:crypto'
import type { RawJson } from '../json.ts'
import { limits } from '../limits.ts'
import { invalidRequest, Problem } from '../problems.ts'
import { storeUnavailable } from '../redis/client.ts'
import { type Context, digest, type EffectName, type Located, milliseconds, type TypePolicy } from './context.ts'
import { fingerprintOf } from './identity.ts'
import {
  effectProblem,
  grantBody,
  inProgressProblem,
  outcomeBody,
  packFingerprint,
  type Subject,
  uncertainProblem,
} from './present.ts'
import { type ClaimReply, effectClaim, type EffectRecord, type LeasePolicy } from './scripts.ts'

export type ClaimRequest = EffectName & {
  owner: string
  claim_id?: string | undefined
  payload?: unknown
  fingerprint?: string | undefined
  lease_seconds?: number | undefined
  retention_seconds?: number | undefined
  on_lease_expiry?: LeasePolicy | undefined
  metadata?: Record<string, string> | undefined
  result?: RawJson | undefined
}

/** A grant (201), or the outcome that is stored already (200). */
export type ClaimAnswer =
  { granted: true; body: ReturnType<typeof grantBody> } | { granted: false; body: ReturnType<typeof outcomeBody> }

/** A claim without `claim_id` still carries a nonce, so that the service may send it again itself. */
const nonce = (): string => randomBytes(17).toString('base64url').slice(0, 22)

function fingerprintArgument({ fingerprint, payload }: ClaimRequest): string {
  if (fingerprint !== undefined) return packFingerprint(fingerprint)
  return payload === undefined ? '' : packFingerprint(fingerprintOf(payload))
}

function callerArguments(request: ClaimRequest, { effectId, entity }: Located, policy: TypePolicy) {
  return {
    effect_id: effectId,
    gate: '',
    owner: request.owner,
    claim: request.claim_id === undefined ? nonce() : digest(request.owner, request.claim_id),
    fingerprint: fingerprintArgument(request),
    lease_ms: milliseconds(request.lease_seconds ?? policy.lease_seconds),
    retention_ms: milliseconds(request.retention_seconds ?? policy.retention_seconds),
    policy: request.on_lease_expiry ?? policy.on_lease_expiry,
    job_type: '',
    durability: 'primary',
    metadata: request.metadata === undefined ? '' : JSON.stringify(request.metadata),
    entity: entity === undefined ? '' : JSON.stringify(entity),
    has_result: request.result === undefined ? '' : '1',
    result: request.result?.text ?? '',
  }
}

function checkPolicy(request: ClaimRequest, policy: TypePolicy): void {
  if (request.on_lease_expiry !== 'reclaim' || policy.on_lease_expiry === 'reclaim' || policy.allow_reclaim) return
  throw invalidRequest([{ pointer: '/on_lease_expiry', message: 'this effect type does not allow reclaim' }])
}

const words: Partial<Record<ClaimReply['status'], string>> = {
  completed_now: 'completed',
  completed_again: 'completed',
  replayed: 'claimed',
}

export function createClaim(context: Context) {
  const { store, events, observe, memory } = context

  function overBudget(): Problem {
    const { used_bytes, budget_bytes } = memory()
    return new Problem('memory-budget-exceeded', 'New effects are refused.', { used_bytes, budget_bytes })
  }

  function tell(subject: Subject, reply: Extract<ClaimReply, { inDoubt: boolean }>): void {
    const { record, lapsed, inDoubt, status } = reply
    if (inDoubt) {
      const { owner, attempt } = record
      const { namespace, effectId } = subject
      events.emit({ event: 'effect.reclaimed', namespace, effect_id: effectId, owner, attempt })
    }
    if (record.state !== 'uncertain') return
    if (lapsed) context.tellUncertain(subject, record, 'lease_expired')
    else if (status === 'exhausted') context.tellUncertain(subject, record, 'attempts_exhausted')
  }

  function refusal(status: string, subject: Subject, record: EffectRecord): Problem {
    switch (status) {
      case 'fingerprint_mismatch':
        return effectProblem('fingerprint-mismatch', 'The effect is known with another fingerprint.', subject, record)
      case 'claim_ended':
        return effectProblem('claim-ended', 'This claim_id was granted before and has ended.', subject, record)
      case 'in_progress':
        return inProgressProblem(subject, record)
      default:
        return uncertainProblem(subject, record)
    }
  }

  function answer(subject: Subject, reply: Extract<ClaimReply, { inDoubt: boolean }>, named: boolean): ClaimAnswer {
    const { status, record } = reply
    switch (status) {
      case 'claimed':
      case 'completed_now':
        return { granted: true, body: grantBody(subject, record, false) }
      case 'replayed':
      case 'completed_again':
        // Without a claim_id only this very request can have been granted before: an answer of Redis was lost.
        return { granted: true, body: grantBody(subject, record, named) }
      case 'completed':
      case 'failed':
        return { granted: false, body: outcomeBody(subject, record, true) }
      case 'exhausted':
        if (record.state === 'failed') return { granted: false, body: outcomeBody(subject, record, false) }
        throw refusal('uncertain', subject, record)
      default:
        throw refusal(status, subject, record)
    }
  }

  /** Runs the script; asks once more if it came late, for then Redis's clock has stepped and the reply told us its time. */
  async function ask(located: Located, request: ClaimRequest, policy: TypePolicy): Promise<ClaimReply> {
    const clock = await store.clock()
    const max_attempts = context.maxAttempts(located.type, null)
    const given = { ...callerArguments(request, located, policy), max_attempts }
    const send = () =>
      store.run(effectClaim, located.keys, {
        ...given,
        deadline_us: clock.nowUs() + limits.storeDeadlineMs * 1000,
        floor_us: clock.floorUs(),
        over_budget: memory().over ? '1' : '',
      })
    const reply = await send()
    return reply.status === 'late' ? send() : reply
  }

  /** Claims an effect for `request.owner`. Every row of the claim table that is neither 201 nor 200 is thrown as its problem. */
  return async function claim(namespace: string, request: ClaimRequest): Promise<ClaimAnswer> {
    const located = context.locate(namespace, request)
    const policy = context.typePolicy(located.type)
    checkPolicy(request, policy)
    context.checkResult(request.result)
    const reply = await ask(located, request, policy)
    observe.claim(located.type, words[reply.status] ?? reply.status)
    if (reply.status === 'over_budget') throw overBudget()
    if (!('inDoubt' in reply)) throw storeUnavailable('busy')
    const subject = await context.subject(namespace, located.effectId)
    tell(subject, reply)
    return answer(subject, reply, request.claim_id !== undefined)
  }
}
