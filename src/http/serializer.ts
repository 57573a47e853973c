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

type Schemas = Record<string, unknown>

/** Those of the shared schemas that `schema` refers to, by way of others too. */
function referredTo(schema: unknown, shared: Schemas): Schemas {
  const found: Schemas = {}
  const look = (node: unknown): void => {
    for (const [, id = ''] of JSON.stringify(node).matchAll(/"\$ref":"([^"#]+)#/g)) {
      if (id in found) continue
      found[id] = shared[id]
      look(shared[id])
    }
  }
  look(schema)
  return found
}

type Stringify = (value: unknown) => string

/** By schema and what it refers to: many answers have the same, and to build one takes milliseconds. */
const built = new Map<string, Stringify>()

function stringifyFor(schema: unknown, shared: Schemas): Stringify {
  const schemas = referredTo(schema, shared)
  const key = JSON.stringify([schema, schemas])
  const known = built.get(key)
  if (known) return known
  const options = { schema: nullable(schemas) as Record<string, Schema> }
  const stringify = fastJsonStringify(nullable(schema) as Schema, options)
  built.set(key, stringify)
  return stringify
}

/** Problems are serialised by `sendProblem`, so nothing is built for them. */
export function serializerCompiler(app: FastifyInstance): FastifySerializerCompiler<Schema> {
  return ({ schema }) => {
    if (typeof schema === 'object' && '$ref' in schema && schema.$ref === 'Problem#') return JSON.stringify
    const stringify = stringifyFor(schema, app.getSchemas())
    // Results come out as the bytes that they came in as.
    return (value: unknown) => stringifyWithRaw(value, stringify)
  }
}
