/** The frame of `openapi.yaml`; everything in it comes from the declarations of the routes. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { Document, visit } from 'yaml'
import { version } from '../paths.ts'

const description = `Claim a side effect before you execute it: at most one live holder, results that never change, doubt that is never silent.`

/** Left on an operation as `x-body` by its declaration. */
export type BodyNotes = { required: boolean; example?: unknown }
type Operation = {
  requestBody?: { required: boolean; content: Record<string, { example?: unknown }> }
  'x-body'?: BodyNotes
}

/** Moves `x-body` to where the document has it. */
function placeBodyNotes(operation: Operation): void {
  const { requestBody, 'x-body': notes } = operation
  delete operation['x-body']
  if (!requestBody || !notes) return
  requestBody.required = notes.required
  const media = requestBody.content['application/json']
  if (media && notes.example !== undefined) media.example = notes.example
}

export const openapi: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: { title: 'Effectonce', version, description, license: { name: 'MIT', identifier: 'MIT' } },
    servers: [{ url: 'http://127.0.0.1:8000' }],
    components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'An API key.' } } },
    tags: [
      { name: 'effects', description: 'Claim, execute, complete.' },
      { name: 'breakers', description: 'Circuit breakers shared by all workers.' },
      { name: 'retries', description: 'The retry decision and retry metrics.' },
      { name: 'failures', description: 'What an error means.' },
      { name: 'audit', description: 'Who did what, and why.' },
      { name: 'events', description: 'What happens, as it happens.' },
      { name: 'operations', description: 'Health, metrics, documentation.' },
    ],
  },
  transformObject: (document) => {
    if (!('openapiObject' in document)) return document.swaggerObject
    for (const path of Object.values(document.openapiObject.paths ?? {})) {
      for (const operation of Object.values(path ?? {})) placeBodyNotes(operation as Operation)
    }
    return document.openapiObject
  },
  refResolver: {
    buildLocalReference: (json, _base, _fragment, index) =>
      typeof json['$id'] === 'string' ? json['$id'] : `def-${index}`,
  },
}

/** Plain in YAML 1.2; an instant or a boolean to the readers of YAML 1.1, which are many. */
const ambiguous = /^(\d{4}-\d\d-\d\d.*|y|yes|n|no|on|off)$/i

/** The text of `openapi.yaml`. */
export function openapiText(document: object): string {
  const text = new Document(document, { aliasDuplicateObjects: false })
  visit(text, {
    Scalar(_key, node) {
      if (typeof node.value === 'string' && ambiguous.test(node.value)) node.type = 'QUOTE_DOUBLE'
    },
  })
  return text.toString({ lineWidth: 120 })
}
