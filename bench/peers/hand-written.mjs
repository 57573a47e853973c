/**
 * What one writes by hand: `SET NX` to claim, `SET` to complete, on Fastify with AJV. No fencing token, no lease of its
 * own, no doubt. A third argument `autopipelining` turns that of ioredis on.
 */
import fastify from 'fastify'
import { Redis } from 'ioredis'
import { claimSchema, completeSchema, grantOf, grantSchema, port, redisUrl } from './listen.mjs'

const retentionSeconds = 259_200
const leaseSeconds = 30
const held = 'in_progress'

const store = new Redis(redisUrl, { enableAutoPipelining: process.argv[4] === 'autopipelining' })
const app = fastify()
const keyOf = ({ type, entity }) => `idempotency:${type}:${entity}`

const claim = { body: claimSchema, response: { 201: grantSchema } }
app.post('/api/v1/effects/claim', { schema: claim }, async ({ body }, reply) => {
  if ((await store.set(keyOf(body), held, 'EX', leaseSeconds, 'NX')) === 'OK') {
    reply.code(201)
    return grantOf(body)
  }
  const known = await store.get(keyOf(body))
  if (known === null || known === held) {
    reply.code(409)
    return { outcome: 'in_progress' }
  }
  return { outcome: 'completed', result: JSON.parse(known) }
})

app.post('/api/v1/effects/complete', { schema: { body: completeSchema } }, async ({ body }) => {
  await store.set(keyOf(body), JSON.stringify(body.result), 'EX', retentionSeconds)
  return { outcome: 'completed' }
})

await app.listen({ port, host: '127.0.0.1' })
