/** What a person, or a worker with evidence, decides about an effect: resolve and delete. */
import { randomUUID } from 'node:crypto'
import { leaseClock } from '../redis/witness.ts'
import type { Actor } from '../auth.ts'
import type { RawJson } from '../json.ts'
import { invalidRequest, type Problem } from '../problems.ts'
import { type Context, digest, type Located, notFound, staleToken } from './context.ts'
import { effectProblem, historyBody, inProgressProblem, recordBody, type Subject } from './present.ts'
import {
  effectDelete,
  effectRead,
  type EffectRecord,
  effectResolve,
  type EffectStep,
  type ResolveReply,
} from './scripts.ts'

export const resolutions = ['executed', 'not_executed', 'abandoned'] as const

export type ResolveRequest = {
  effect_id: string
  located?: Located | undefined
  resolution: (typeof resolutions)[number]
  reason: string
  evidence?: RawJson | undefined
  result?: RawJson | undefined
  fencing_token?: number | undefined
}

export type DeleteRequest = { effect_id: string; reason: string; fencing_token?: number | undefined }

/** Where the contract asks for more than the schema can say. `byWorker`: the caller is no operator. */
function checkResolve(request: ResolveRequest, byWorker: boolean): void {
  const errors = []
  const tokenNeeded = byWorker || request.resolution === 'not_executed'
  if (byWorker && request.evidence === undefined) {
    errors.push({ pointer: '/evidence', message: 'is required of a worker' })
  }
  if (tokenNeeded && request.fencing_token === undefined) {
    errors.push({ pointer: '/fencing_token', message: 'is required: the one of the record that was looked at' })
  }
  if (request.result !== undefined && request.resolution !== 'executed') {
    errors.push({ pointer: '/result', message: 'belongs to the resolution executed' })
  }
  if (errors.length > 0) throw invalidRequest(errors)
}

function resolvedBody(request: ResolveRequest): string {
  if (request.resolution === 'executed') return request.result?.text ?? 'null'
  return JSON.stringify({ message: request.reason, code: request.resolution })
}

/** The record before the act, for the audit. Problem `effect-not-found`: then there is nothing to act on. */
async function readBefore(context: Context, subject: Subject, key: string): Promise<EffectRecord> {
  const seen = await context.store.run(effectRead, [key], {})
  if (seen.status === 'not_found') throw notFound(subject)
  return seen.record
}

const stateOf = ({ state, owner, attempt, token }: EffectRecord) => ({ state, owner, attempt, fencing_token: token })

function resolveRefusal(reply: Exclude<ResolveReply, { status: 'resolved' }>, subject: Subject): Problem {
  switch (reply.status) {
    case 'not_found':
      return notFound(subject)
    case 'stale':
      return staleToken(subject, reply.record)
    case 'in_progress':
      return inProgressProblem(subject, reply.record)
    case 'already_settled':
      return effectProblem('already-settled', `The effect is ${reply.record.state}.`, subject, reply.record)
  }
}

/** The attempt whose lease was found to be over; `not_executed` has set the count of attempts back since. */
const lapsedAttempt = ({ history }: { history: EffectStep[] }): number =>
  history.findLast(({ step }) => step === 'lease_expired')?.attempt ?? 0

function resolveArguments(request: ResolveRequest, actor: Actor, byWorker: boolean) {
  const { effect_id, resolution, reason, fencing_token: token, evidence, result } = request
  return {
    effect_id,
    token: token ?? '',
    call: digest(resolution, reason, token, evidence?.text, result?.text, actor.user, actor.on_behalf_of),
    resolution,
    uncertain_only: byWorker ? '1' : '',
    by: actor.user,
    reason,
    body: resolvedBody(request),
  }
}

/** Settles an effect; the token moves on, so the old holder is stale. Answers the record. */
export async function resolve(
  context: Context,
  namespace: string,
  request: ResolveRequest,
  actor: Actor,
  byWorker: boolean,
) {
  checkResolve(request, byWorker)
  context.checkResult(request.result)
  const located = context.locate(namespace, request)
  const { effectId, keys } = located
  const subject = await context.subject(namespace, located)
  const before = await readBefore(context, subject, keys[0])
  const { resolution, reason, evidence = null } = request
  const args = resolveArguments(request, actor, byWorker)

  async function perform() {
    const clock = await context.store.clock(keys[0])
    const given = { ...args, ...leaseClock, floor_us: () => clock.floorUs() }
    const reply = await context.runDurably(located, effectResolve, given)
    if (reply.status !== 'resolved') throw resolveRefusal(reply, subject)
    return reply
  }

  const repeated = before.ended === `resolve:${args.call}`
  const said = { reason, before: stateOf(before), after: { resolution }, evidence }
  const entry = { action: 'effect.resolve' as const, subject: effectId, ...actor, ...said }
  const reply = repeated ? await perform() : await context.audit.act(namespace, entry, perform)
  context.tellLapsed(subject, { ...reply.record, attempt: lapsedAttempt(reply) }, reply.lapsed)
  if (!reply.replayed) {
    context.events.emit({ event: 'effect.resolved', namespace, effect_id: effectId, resolution, user: actor.user })
  }
  return {
    ...recordBody(subject, reply.record),
    history: historyBody(reply.history),
    ...(reply.replayed ? { replayed: true } : {}),
  }
}

/** Forgets a settled or released record; its token is remembered for the retention. */
export async function remove(context: Context, namespace: string, request: DeleteRequest, actor: Actor): Promise<void> {
  const located = context.locate(namespace, request)
  const { effectId, keys } = located
  const subject = await context.subject(namespace, located)
  const before = await readBefore(context, subject, keys[0])
  const args = { effect_id: effectId, token: request.fencing_token ?? '', call: digest(randomUUID()), ...leaseClock }

  async function perform(): Promise<void> {
    const reply = await context.runDurably(located, effectDelete, args)
    if (reply.status === 'not_found') throw notFound(subject)
    if (reply.status === 'stale') throw staleToken(subject, reply.record)
    if (reply.status === 'not_settled') {
      throw effectProblem('not-settled', `The effect is ${reply.record.state}.`, subject, reply.record)
    }
  }

  const said = { reason: request.reason, before: stateOf(before), after: null }
  await context.audit.act(namespace, { action: 'effect.delete', subject: effectId, ...actor, ...said }, perform)
  context.events.emit({ event: 'effect.deleted', namespace, effect_id: effectId, user: actor.user })
}
