/** @node-idempotency/core with its Redis storage, round a handler of Fastify that has nothing else to do. */
import { Idempotency } from '@node-idempotency/core'
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis'
import fastify from 'fastify'
import { resultOf } from '../result.mjs'
import { port, redisUrl } from './listen.mjs'

const storage = new RedisStorageAdapter({ url: redisUrl })
await storage.connect()
const idempotency = new Idempotency(storage, { enforceIdempotency: true, cacheTTLMS: 259_200_000 })

const text = { type: 'string', minLength: 1, maxLength: 1024 }
const body = { type: 'object', required: ['entity', 'owner'], properties: { entity: text, owner: text } }
const app = fastify()
app.post('/effects', { schema: { body } }, async (request, reply) => {
  const call = { headers: request.headers, path: '/effects', method: 'POST', body: request.body }
  const known = await idempotency.onRequest(call)
  if (known !== undefined) return known.body
  const result = JSON.parse(resultOf(request.body.entity))
  await idempotency.onResponse(call, { body: result })
  reply.code(201)
  return result
})
await app.listen({ port, host: '127.0.0.1' })
