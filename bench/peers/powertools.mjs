/** AWS Lambda Powertools' idempotency with its cache persistence, round a handler of Fastify that has nothing else to do. */
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency'
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache'
import { createClient } from '@redis/client'
import fastify from 'fastify'
import { resultOf } from '../result.mjs'
import { port, redisUrl } from './listen.mjs'

const client = await createClient({ url: redisUrl }).connect()
const execute = makeIdempotent(async ({ entity }) => JSON.parse(resultOf(entity)), {
  persistenceStore: new CachePersistenceLayer({ client }),
  config: new IdempotencyConfig({ expiresAfterSeconds: 259_200 }),
  keyPrefix: 'effects',
})

const text = { type: 'string', minLength: 1, maxLength: 1024 }
const body = { type: 'object', required: ['entity', 'owner'], properties: { entity: text, owner: text } }
const app = fastify()
app.post('/effects', { schema: { body } }, async (request, reply) => {
  reply.code(201)
  return execute(request.body)
})
await app.listen({ port, host: '127.0.0.1' })
