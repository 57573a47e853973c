/** What a person, or a worker with evidence, decides about an effect: resolve and delete. */
import { RawJson } from '../json.ts'
import { invalidRequest } from '../problems.ts'
import { type Actor, type Context, digest, notFound, staleToken } from './context.ts'
import { effectProblem, historyBody, inProgressProblem, recordBody } from './present.ts'
import { effectDelete, effectResolve } from './scripts.ts'

export const resolutions = ['executed', 'not_executed', 'abandoned'] as const

export type ResolveRequest = {
  effect_id: string
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
  const { effectId, keys } = context.locate(namespace, request)
  const { resolution, reason, fencing_token: token, evidence, result } = request
  const clock = await context.store.clock()
  const reply = await context.store.run(effectResolve, keys, {
    effect_id: effectId,
    token: token ?? '',
    call: digest(resolution, reason, token, evidence?.text, result?.text, actor.user, actor.on_behalf_of),
    floor_us: clock.floorUs(),
    resolution,
    uncertain_only: byWorker ? '1' : '',
    by: actor.user,
    reason,
    body: resolvedBody(request),
  })
  const subject = await context.subject(namespace, effectId)
  switch (reply.status) {
    case 'not_found':
      throw notFound(subject)
    case 'stale':
      throw staleToken(subject, reply.record)
    case 'in_progress':
      throw inProgressProblem(subject, reply.record)
    case 'already_settled':
      throw effectProblem('already-settled', `The effect is ${reply.record.state}.`, subject, reply.record)
    case 'resolved':
      if (!reply.replayed) {
        context.events.emit({ event: 'effect.resolved', namespace, effect_id: effectId, resolution, user: actor.user })
      }
      return {
        ...recordBody(subject, reply.record),
        history: historyBody(reply.history),
        ...(reply.replayed ? { replayed: true } : {}),
      }
  }
}

/** Forgets a settled or released record; its token is remembered for the retention. */
export async function remove(context: Context, namespace: string, request: DeleteRequest, actor: Actor): Promise<void> {
  const { effectId, keys } = context.locate(namespace, request)
  const reply = await context.store.run(effectDelete, keys, { effect_id: effectId, token: request.fencing_token ?? '' })
  const subject = await context.subject(namespace, effectId)
  switch (reply.status) {
    case 'not_found':
      throw notFound(subject)
    case 'stale':
      throw staleToken(subject, reply.record)
    case 'not_settled':
      throw effectProblem('not-settled', `The effect is ${reply.record.state}.`, subject, reply.record)
    case 'deleted':
      context.events.emit({ event: 'effect.deleted', namespace, effect_id: effectId, user: actor.user })
  }
}
