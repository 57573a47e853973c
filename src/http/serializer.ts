/** How answers are written: fast-json-stringify, built from the declared schema. */
import fastJsonStringify, { type Schema } from 'fast-json-stringify'
import type { FastifyInstance, FastifySerializerCompiler } from 'fastify'
import { stringifyWithRaw } from '../json.ts'

const simple: ReadonlySet<unknown> = new Set(['string', 'number', 'integer', 'boolean'])

/**
 * fast-json-stringify validates a value against each branch of `anyOf`, which takes 2 µs to tell a text from null; of a simple
 * type and null it is told as one schema.
 */
function nullable(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(nullable)
  if (typeof node !== 'object' || node === null) return node
  const { anyOf, ...rest } = node as { anyOf?: { type?: unknown }[] }
  const [branch, other] = anyOf ?? []
  if (anyOf?.length === 2 && other?.type === 'null' && simple.has(branch?.type))
    return { ...branch, ...rest, nullable: true }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, nullable(value)]))
}

/**
 * Problems are serialised by `sendProblem`, so nothing is built for them: that took more than half of the time
 * to build the server.
 */
export function serializerCompiler(app: FastifyInstance): FastifySerializerCompiler<Schema> {
  return ({ schema }) => {
    if (typeof schema === 'object' && '$ref' in schema && schema.$ref === 'Problem#') return JSON.stringify
    const stringify = fastJsonStringify(nullable(schema) as Schema, {
      schema: nullable(app.getSchemas()) as Record<string, Schema>,
    })
    // Results come out as the bytes that they came in as.
    return (value: unknown) => stringifyWithRaw(value, stringify)
  }
}
