/** The frame of `openapi.yaml`; everything in it comes from the declarations of the routes. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { version } from '../paths.ts'

const description = `Claim a side effect before you execute it: at most one live holder, results that never change, doubt that is never silent.`

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
  refResolver: {
    buildLocalReference: (json, _base, _fragment, index) =>
      typeof json['$id'] === 'string' ? json['$id'] : `def-${index}`,
  },
}
