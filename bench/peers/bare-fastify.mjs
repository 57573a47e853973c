/** HTTP alone, as a framework has it: Fastify, a body checked by AJV, an answer of a compiled schema, no store. */
import fastify from 'fastify'
import { claimSchema, grantOf, grantSchema, port } from './listen.mjs'

const app = fastify()
const schema = { body: claimSchema, response: { 201: grantSchema } }
app.post('/api/v1/effects/claim', { schema }, async (request, reply) => {
  reply.code(201)
  return grantOf(request.body)
})
await app.listen({ port, host: '127.0.0.1' })
