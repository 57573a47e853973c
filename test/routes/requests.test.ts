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

// Queries

const anyId = `order_placement.${'0a'.repeat(32)}`

const pointers = ({ body }: Answer): string[] => (body.errors ?? []).map(({ pointer }: { pointer: string }) => pointer)

t.test('a parameter that is no percent-encoded UTF-8 is refused by its name, wherever it is sent', async (t) => {
  const { call } = await startApp(t)
  const refused: [method: string, url: string, pointer: string][] = [
    ...['a%ff', '%ed%a0%80', 'a%', '%zz', '%c3', '%C0%AF', '%f4%90%80%80'].map((entity): [string, string, string] => [
      'GET',
      `effects/lookup?type=order_placement&entity=${entity}`,
      '?entity',
    ]),
    ['GET', 'effects/lookup?type=order_placement&entity_json={"a":"%ff"}', '?entity_json'],
    ['GET', 'effects?owner=%ff', '?owner'],
    ['GET', 'effects?owner=a&%ff=1', '?%ff'],
    ['GET', 'audit?subject=%ff', '?subject'],
    ['GET', 'breakers/some_job/history?cursor=%', '?cursor'],
    ['DELETE', `effects/${anyId}?reason=%ffabc`, '?reason'],
    ['DELETE', 'jobs/metrics?reason=%ffabc', '?reason'],
    ['POST', 'effects/claim?a=%ff', '?a'],
  ]
  for (const [method, url, pointer] of refused) {
    const answer = await call(method, `/api/v1/${url}`)
    t.equal(code(answer), '400 invalid-request', `${method} ${url}`)
    t.same(pointers(answer), [pointer], `${method} ${url}`)
  }
  t.equal((await call('GET', '/livez?x=%ff')).status, 200, 'where probes and browsers add what they like')
})

t.test('an entity in a query is the one that its encoding says, and no other', async (t) => {
  const { call } = await startApp(t)
  const entity = 'ü+ &=%ff😀'
  const { effect_id } = (await call('POST', claimUrl, { type: 'a', entity, owner: 'o' })).body
  for (const written of [encodeURIComponent(entity), '%c3%bc%2b+%26=%25ff%F0%9F%98%80'])
    t.equal((await call('GET', `/api/v1/effects/lookup?type=a&entity=${written}`)).body.effect_id, effect_id, written)
  const twice = await call('GET', '/api/v1/effects/lookup?type=a&entity=a&entity=b')
  t.same(pointers(twice), ['?entity'], 'one parameter twice')
})

t.test('a number in a query is decimal digits and nothing else', async (t) => {
  const { call } = await startApp(t)
  const claim = await call('POST', claimUrl, { type: 'a', entity: `${Math.random()}`, owner: 'o', result: 1 })
  const { effect_id, fencing_token: token } = claim.body
  const spellings = (number: number | string) => [
    ...[`${number}.1`, `${number}.0`, `0x${number}`, `%2B${number}`, `%20${number}`, `${number}%0a`, `-${number}`],
    ...[`${number}e0`, '1e3', '', '0', '99999999999999999999', 'Infinity', `${number}n`, '٣'],
  ]
  const refused: [method: string, url: string, name: string, number: number][] = [
    ['DELETE', `effects/${effect_id}?reason=abc&`, 'fencing_token', token],
    ['GET', 'effects?', 'limit', 5],
    ['GET', 'breakers?', 'limit', 5],
    ['GET', 'breakers/some_job/history?', 'limit', 5],
    ['GET', 'audit?', 'limit', 5],
    ['GET', 'jobs/metrics?', 'window_minutes', 5],
    ['GET', 'jobs/metrics/some_job?', 'window_minutes', 5],
  ]
  for (const [method, path, name, number] of refused) {
    for (const spelling of spellings(number)) {
      const answer = await call(method, `/api/v1/${path}${name}=${spelling}`)
      t.equal(code(answer), '400 invalid-request', `${method} ${path}${name}=${spelling}`)
      t.same([...new Set(pointers(answer))], [`?${name}`])
    }
    const { status } = await call(method, `/api/v1/${path}${name}=${number}`)
    t.equal(status, method === 'DELETE' ? 204 : 200, `${method} ${path}${name}=${number}`)
  }
})
