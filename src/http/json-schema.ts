/** zod schemas as JSON Schema: one source for validation, serialisation and `openapi.yaml`. */
import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'

export type JsonSchema = Record<string, unknown>

/** Components that routes refer to by id; the same id with another shape is a mistake of ours. */
export type Components = Map<string, JsonSchema>

/** Rewrites `#/$defs/Id` to `Id#`, the form in which Fastify shares schemas, and drops what only zod needs. */
function shared(node: unknown, open: boolean): unknown {
  if (Array.isArray(node)) return node.map((item) => shared(item, open))
  if (typeof node !== 'object' || node === null) return node
  const entries = Object.entries(node)
    .filter(
      ([key, value]) =>
        key !== '$schema' && key !== '$defs' && !(open && key === 'additionalProperties' && value === false),
    )
    .map(([key, value]) => [key, key === '$ref' ? `${String(value).replace('#/$defs/', '')}#` : shared(value, open)])
  return Object.fromEntries(entries)
}

/**
 * The JSON Schema of `schema`; schemas with `.meta({ id })` go to `components` and are referred to. Answers are open:
 * they may gain members; requests are as strict as their schema.
 */
export function jsonSchema(schema: z.ZodType, io: 'input' | 'output', components: Components): JsonSchema {
  const whole = z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'draft-2020-12' }) as JsonSchema
  const open = io === 'output'
  for (const [id, definition] of Object.entries((whole['$defs'] ?? {}) as Record<string, unknown>)) {
    addComponent(components, id, shared(definition, open) as JsonSchema)
  }
  return shared(whole, open) as JsonSchema
}

function addComponent(components: Components, id: string, definition: JsonSchema): void {
  const known = components.get(id)
  assert(!known || isDeepStrictEqual(known, definition), `the schema ${id} has two shapes`)
  components.set(id, definition)
}
