/** Effects: claim, complete, fail, release, renew, resolve, delete, and looking at them. */
import { actorOf } from '../src/auth.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Effects } from '../src/effects/effects.ts'
import { identify } from '../src/effects/identity.ts'
import type { Caller } from '../src/effects/waiting.ts'
import * as schema from '../src/effects/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import { isJsonObject, type JsonObject, parseStrict } from '../src/json.ts'
import { invalidRequest, Problem } from '../src/problems.ts'
import { type EffectOperations, effectOperations } from './effect-operations.ts'
import * as examples from './examples/effects.ts'

const tag = 'effects'
const stale = ['effect-not-found', 'stale-token'] as const

/** The object of `?entity_json=`, held to the same rules as in a body. */
function objectOf(entityJson: string): JsonObject {
  const misfit = (message: string) => invalidRequest([{ pointer: '?entity_json', message }])
  try {
    const value = parseStrict(entityJson)
    if (isJsonObject(value)) return value
  } catch (error) {
    throw error instanceof Problem ? misfit(error.message) : error
  }
  throw misfit('must be a JSON object; send a string as entity')
}

type LookupQuery = { type: string; entity?: string | undefined; entity_json?: string | undefined }

const lookedUp = ({ type, entity = '', entity_json: entityJson }: LookupQuery): string =>
  entityJson === undefined
    ? identify(type, entity, '?entity').effectId
    : identify(type, objectOf(entityJson), '?entity_json').effectId

/** Whoever sent a claim that waits. The connection may be silent meanwhile, and what it sent need not be kept. */
function callerOf(request: FastifyRequest, { raw }: FastifyReply): Caller {
  request.body = undefined
  request.raw.socket?.setTimeout?.(0)
  return {
    gone: () => raw.destroyed,
    whenGone: (listener) => raw.once('close', listener),
    waited: (ms) => void (request.waitedMs = ms),
  }
}

export function effectRoutes(declare: Declare, effects: Effects): void {
  const operations = effectOperations(effects)
  declareClaim(declare, operations)
  declareReports(declare, operations)
  declareLease(declare, operations)
  declareSettlements(declare, operations, effects)
  declareReading(declare, effects)
}

function declareClaim(declare: Declare, { claim }: EffectOperations): void {
  declare(
    {
      id: 'claimEffect',
      method: 'POST',
      url: '/api/v1/effects/claim',
      role: 'worker',
      tag,
      summary: 'Ask to execute an effect: go, here is the result, or not now',
      body: claim.body,
      waitSeconds: (body) => body.wait_seconds ?? 0,
      bodyExample: examples.claim,
      answers: {
        201: { description: 'Go: you are the only holder.', schema: schema.claimGranted, example: examples.granted },
        200: {
          description: 'Do not execute: the stored outcome.',
          schema: schema.claimSettled,
          example: examples.settled,
        },
      },
      problems: [
        'circuit-open',
        'claim-ended',
        'effect-in-progress',
        'effect-uncertain',
        'fingerprint-mismatch',
        'memory-budget-exceeded',
      ],
    },
    ({ principal, body, request, reply }) =>
      claim.answer(principal, body, body.wait_seconds ? callerOf(request, reply) : undefined),
  )
}

function declareReports(declare: Declare, { complete, fail }: EffectOperations): void {
  declare(
    {
      id: 'completeEffect',
      method: 'POST',
      url: '/api/v1/effects/complete',
      role: 'worker',
      tag,
      summary: 'It happened: store its result for every later caller',
      body: complete.body,
      bodyExample: examples.complete,
      answers: { 200: { description: 'Stored.', schema: schema.completed, example: examples.completed } },
      problems: [...stale, 'result-conflict', 'already-settled'],
    },
    ({ principal, body }) => complete.answer(principal, body),
  )
  declare(
    {
      id: 'failEffect',
      method: 'POST',
      url: '/api/v1/effects/fail',
      role: 'worker',
      tag,
      summary: 'It did not happen, or nobody knows: classify, and say whether and when to retry',
      body: fail.body,
      bodyExample: examples.fail,
      answers: { 200: { description: 'Recorded.', schema: schema.failed, example: examples.failed } },
      problems: [...stale, 'result-conflict', 'already-settled'],
    },
    ({ principal, body }) => fail.answer(principal, body),
  )
}

function declareLease(declare: Declare, { release, renew }: EffectOperations): void {
  declare(
    {
      id: 'releaseEffect',
      method: 'POST',
      url: '/api/v1/effects/release',
      role: 'worker',
      tag,
      summary: 'Give the claim back unused; the attempt does not count',
      body: release.body,
      bodyExample: examples.release,
      answers: { 200: { description: 'Released.', schema: schema.released, example: examples.released } },
      problems: [...stale, 'lease-expired', 'already-settled'],
    },
    ({ principal, body }) => release.answer(principal, body),
  )
  declare(
    {
      id: 'renewEffect',
      method: 'POST',
      url: '/api/v1/effects/renew',
      role: 'worker',
      tag,
      summary: 'Heartbeat: extend the lease',
      body: renew.body,
      bodyExample: examples.renew,
      answers: { 200: { description: 'Extended.', schema: schema.renewed, example: examples.renewed } },
      problems: [...stale, 'lease-expired', 'result-conflict', 'already-settled'],
    },
    ({ principal, body }) => renew.answer(principal, body),
  )
}

function declareSettlements(declare: Declare, { resolve }: EffectOperations, effects: Effects): void {
  declare(
    {
      id: 'resolveEffect',
      method: 'POST',
      url: '/api/v1/effects/:effect_id/resolve',
      role: 'worker',
      tag,
      summary: 'Settle an effect by decision; a worker needs evidence, and may settle an uncertain one only',
      params: schema.effectParams,
      body: schema.resolveBody,
      bodyExample: examples.resolve,
      answers: { 200: { description: 'The record.', schema: schema.effectRecord, example: examples.resolved } },
      problems: [...stale, 'already-settled', 'effect-in-progress'],
    },
    ({ principal, params, body }) => resolve.answer(principal, { ...body, effect_id: params.effect_id }),
  )
  declare(
    {
      id: 'deleteEffect',
      method: 'DELETE',
      url: '/api/v1/effects/:effect_id',
      role: 'operator',
      tag,
      summary: 'Forget a settled or released record; its token is remembered for the retention',
      params: schema.effectParams,
      query: schema.deleteQuery,
      answers: { 204: { description: 'Forgotten.', schema: null } },
      problems: [...stale, 'not-settled'],
    },
    async ({ principal, params, query: { user, ...query } }) => {
      const request = { ...query, effect_id: params.effect_id }
      await effects.remove(principal.namespace, request, actorOf(principal, user))
      return { status: 204 }
    },
  )
}

function declareReading(declare: Declare, effects: Effects): void {
  declare(
    {
      id: 'lookupEffect',
      method: 'GET',
      url: '/api/v1/effects/lookup',
      role: 'reader',
      tag,
      summary: 'The record of an effect by type and entity',
      query: schema.lookupQuery,
      answers: { 200: { description: 'The record.', schema: schema.effectRecord, example: examples.record } },
      problems: ['effect-not-found'],
    },
    async ({ principal, query }) => {
      const name = { effect_id: lookedUp(query) }
      return { status: 200, body: await effects.get(principal.namespace, name) }
    },
  )
  declare(
    {
      id: 'getEffect',
      method: 'GET',
      url: '/api/v1/effects/:effect_id',
      role: 'reader',
      tag,
      summary: 'The record of an effect by its id',
      params: schema.effectParams,
      answers: { 200: { description: 'The record.', schema: schema.effectRecord, example: examples.record } },
      problems: ['effect-not-found'],
    },
    async ({ principal, params }) => ({ status: 200, body: await effects.get(principal.namespace, params) }),
  )
  declare(
    {
      id: 'listEffects',
      method: 'GET',
      url: '/api/v1/effects',
      role: 'reader',
      tag,
      summary: 'The effects in progress and uncertain, in no promised order',
      query: schema.listQuery,
      answers: { 200: { description: 'One page.', schema: schema.effectList, example: examples.list } },
    },
    async ({ principal, query }) => ({ status: 200, body: await effects.list(principal.namespace, query) }),
  )
}
