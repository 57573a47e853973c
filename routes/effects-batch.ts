/** Many operations on effects in one call, each answered as the single call would have answered it. */
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../src/auth.ts'
import { type BatchOperation, createBatches } from '../src/effects/batch.ts'
import type { EffectName, Located } from '../src/effects/context.ts'
import type { Effects } from '../src/effects/effects.ts'
import * as schema from '../src/effects/schema.ts'
import { problemOf } from '../src/http/errors.ts'
import { type Answered, type Declare, parseBody } from '../src/http/operation.ts'
import { isJsonObject, type JsonObject } from '../src/json.ts'
import { limits } from '../src/limits.ts'
import { invalidRequest, Problem, problemBody } from '../src/problems.ts'
import { type EffectOperation, effectOperations } from './effect-operations.ts'
import * as examples from './examples/effects.ts'

const refusal = (pointer: string, message: string): Problem => invalidRequest([{ pointer, message }])

type Operations = Record<string, EffectOperation>

/** Which operation one of the list is, and the body that the single call would have. Throws a problem. */
function read(operations: Operations, value: unknown): { operation: EffectOperation; body: JsonObject } {
  // What src/json.ts found in it, and the single call would have been refused for.
  if (value instanceof Problem) throw value
  if (!isJsonObject(value)) throw refusal('', 'must be an object')
  const { op, ...body } = value
  if (op === undefined) throw refusal('/op', 'is required')
  const operation = typeof op === 'string' && Object.hasOwn(operations, op) ? operations[op] : undefined
  if ('wait_seconds' in body) throw refusal('/wait_seconds', 'is not taken in a batch')
  if (!operation) throw refusal('/op', `must be one of ${Object.keys(operations).join(', ')}`)
  return { operation, body }
}

/** Undefined where the operation itself will say what is wrong with the name. */
function locate(effects: Effects, namespace: string, name: EffectName): Located | undefined {
  try {
    return effects.locate(namespace, name)
  } catch (error) {
    if (error instanceof Problem) return undefined
    throw error
  }
}

function prepare(
  effects: Effects,
  operations: Operations,
  principal: Principal,
  value: unknown,
): BatchOperation<Answered> {
  try {
    const { operation, body: sent } = read(operations, value)
    const body = parseBody(operation.body, sent)
    const located = locate(effects, principal.namespace, body)
    return { on: located?.effectId, run: () => operation.answer(principal, { ...body, located }) }
  } catch (error) {
    const run = async (): Promise<never> => {
      throw error
    }
    return { on: undefined, run }
  }
}

type Fault = (where: 'request') => void

function told(answer: PromiseSettledResult<Answered>, request: FastifyRequest, fault: Fault): Answered {
  if (answer.status === 'fulfilled') return answer.value
  const problem = problemOf(answer.reason, request)
  if (problem.status === 500) fault('request')
  return { status: problem.status, body: problemBody(problem, request.id) }
}

/** `fault` counts a mistake of ours that only one operation shows. */
export function effectBatchRoutes(declare: Declare, effects: Effects, fault: Fault): void {
  const operations: Operations = effectOperations(effects)
  const run = createBatches()
  declare(
    {
      id: 'batchEffects',
      method: 'POST',
      url: '/api/v1/effects/batch',
      role: 'worker',
      tag: 'effects',
      summary: 'Up to 256 operations in one call, each answered as the single call would be',
      description:
        'One bad operation does not spoil the others. Operations on one effect run in the order given, the others side by side.',
      body: schema.batchBody,
      bodyShown: schema.batchShown,
      bodyExample: examples.batch,
      bodyBytesMax: limits.batchBodyBytesMax,
      answers: {
        200: {
          description: 'What each was answered, in the order given.',
          schema: schema.batchAnswered,
          example: examples.batchAnswered,
        },
      },
    },
    async ({ principal, body, request }) => {
      const { operations: values } = body
      const make = () => values.map((value) => prepare(effects, operations, principal, value))
      const answers = await run(values.length, make)
      return { status: 200, body: { results: answers.map((answer) => told(answer, request, fault)) } }
    },
  )
}
