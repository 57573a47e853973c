/** What HTTP itself may bring, before any call looks at it: methods, queries, and requests that cannot be read. */
import t from 'tap'
import { METHODS } from 'node:http'
import { errorCodes, fastify } from 'fastify'
import { handleError } from '../../src/http/errors.ts'
import { type Answer, startApp } from '../helpers/app.ts'

const claimUrl = '/api/v1/effects/claim'

const code = ({ status, body }: Answer) => `${status} ${body.code}`

// Methods

t.test('every method that is not served is 405 with Allow, and 404 at a path that is not there', async (t) => {
  const { call } = await startApp(t)
  // CONNECT names no path: Node closes its connection.
  const others = METHODS.filter((method) => method !== 'POST' && method !== 'CONNECT')
  for (const method of others) {
    const refused = await call(method, claimUrl)
    if (method === 'HEAD') t.equal(refused.status, 405)
    else t.equal(code(refused), '405 method-not-allowed', method)
    t.equal(refused.headers['allow'], 'POST', method)
    t.equal((await call(method, '/nothing')).status, 404, method)
  }
  t.match((await call('GET', '/metrics')).text, 'effectonce_faults_total{where="request"} 0')
})

t.test('what is wrong with a body does not matter at a path that takes none', async (t) => {
  const { call } = await startApp(t)
  for (const method of ['PUT', 'PATCH', 'QUERY', 'PROPFIND', 'POST']) {
    for (const type of ['application/json', 'text/plain', 'nonsense']) {
      const answer = await call(method, '/api/v1/effects', '{"type":', { 'content-type': type })
      t.equal(code(answer), '405 method-not-allowed', `${method} ${type}`)
    }
  }
})

t.test('whatever Fastify blames the caller for is a problem of that kind, and no fault of ours', async (t) => {
  const app = fastify()
  app.setErrorHandler(handleError)
  app.get('/:code', ({ params }) => {
    const { code } = params as { code: keyof typeof errorCodes }
    throw new errorCodes[code]('a detail')
  })
  t.teardown(() => app.close())
  const all = Object.values(errorCodes).map((made) => new made('a detail'))
  const blaming = all.filter(({ statusCode = 500 }) => statusCode < 500)
  t.ok(blaming.length > 5)
  for (const { code } of blaming) {
    const { statusCode, headers } = await app.inject(`/${code}`)
    t.ok(statusCode >= 400 && statusCode < 500, `${code}: ${statusCode}`)
    t.match(headers['content-type'], /^application\/problem\+json/, code)
  }
})
