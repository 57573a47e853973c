/** What every call holds to: bad input is refused by name and stores nothing, whoever calls, however it is sent. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { type Answer, makeKey, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { randomNamespace, startRedis, storedKeys, waitFor } from '../helpers/redis-server.ts'

const claimUrl = '/api/v1/effects/claim'
const anyId = `order_placement.${'0a'.repeat(32)}`

const code = ({ status, body }: Answer) => `${status} ${body.code}`

/** A claim as JSON text: `members` are put behind what every claim needs. */
const claimText = (members: string) => `{"type":"a","entity":"e","owner":"o"${members && `,${members}`}}`
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`

/** What is wrong, the body, the slug, and where. */
const badClaims: [name: string, body: string | Buffer, slug: string, pointer?: string][] = [
  ['no JSON', '{"type":', 'invalid-json'],
  ['two values', '{} {}', 'invalid-json'],
  ['nothing', '', 'invalid-json'],
  ['NaN', claimText('"lease_seconds":NaN'), 'invalid-json'],
  ['a trailing comma', '{"type":"a",}', 'invalid-json'],
  ['a byte order mark', `\ufeff${claimText('')}`, 'invalid-json'],
  ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'invalid-json'],
  [
    'an overlong NUL',
    Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xc0, 0x80]), Buffer.from('"}')]),
    'invalid-json',
  ],
  ['an array', '[]', 'invalid-request', ''],
  ['a string', '"x"', 'invalid-request', ''],
  ['null', 'null', 'invalid-request', ''],
  ['a number', '1', 'invalid-request', ''],
  ['an empty object', '{}', 'invalid-request', '/owner'],
  ['an unknown member', claimText('"fencing_tokn":1'), 'invalid-request', '/fencing_tokn'],
  ['__proto__', claimText('"__proto__":{}'), 'invalid-request', '/__proto__'],
  ['constructor', claimText('"constructor":{}'), 'invalid-request', '/constructor'],
  ['a duplicate member', claimText('"owner":"p"'), 'invalid-request', '/owner'],
  ['a duplicate behind an escape', claimText('"\\u006fwner":"p"'), 'invalid-request', '/owner'],
  ['a duplicate inside the entity', '{"type":"a","owner":"o","entity":{"k":1,"k":2}}', 'invalid-request', '/entity/k'],
  ['a duplicate inside the payload', claimText('"payload":[{"a/b":1,"a/b":2}]'), 'invalid-request', '/payload/0/a~1b'],
  ['a lone surrogate', '{"type":"a","owner":"o","entity":"\\ud800"}', 'invalid-request', '/entity'],
  ['a lone surrogate as a name', '{"type":"a","owner":"o","entity":{"\\udc00":1}}', 'invalid-request', '/entity'],
  ['an inexact number', '{"type":"a","owner":"o","entity":{"n":9007199254740993}}', 'number-not-exact', '/entity/n'],
  ['an infinite number', claimText('"payload":[1e400]'), 'number-not-exact', '/payload/0'],
  ['a vanishing number', claimText('"payload":1e-400'), 'number-not-exact', '/payload'],
  ['nesting over 32 levels', claimText(`"payload":${nested(32)}`), 'invalid-request'],
  ['nesting of 100,000 levels', claimText(`"payload":${nested(100_000)}`), 'invalid-request'],
  ['no type', '{"entity":"e","owner":"o"}', 'invalid-request', '/type'],
  ['no entity', '{"type":"a","owner":"o"}', 'invalid-request', '/entity'],
  ['a type in capitals', '{"type":"A","entity":"e","owner":"o"}', 'invalid-request', '/type'],
  ['a type with a line end', '{"type":"a\\n","entity":"e","owner":"o"}', 'invalid-request', '/type'],
  ['a type of 65 characters', `{"type":"${'a'.repeat(65)}","entity":"e","owner":"o"}`, 'invalid-request', '/type'],
  ['an empty entity', '{"type":"a","entity":"","owner":"o"}', 'invalid-request', '/entity'],
  ['an entity that is a number', '{"type":"a","entity":1,"owner":"o"}', 'invalid-request', '/entity'],
  ['an entity that is an array', '{"type":"a","entity":[1],"owner":"o"}', 'invalid-request', '/entity'],
  ['an entity that is null', '{"type":"a","entity":null,"owner":"o"}', 'invalid-request', '/entity'],
  ['an entity of 1025 bytes', `{"type":"a","entity":"${'x'.repeat(1025)}","owner":"o"}`, 'invalid-request', '/entity'],
  ['an entity of 513 é', `{"type":"a","entity":"${'é'.repeat(513)}","owner":"o"}`, 'invalid-request', '/entity'],
  [
    'an object of 1025 bytes',
    `{"type":"a","entity":{"k":"${'x'.repeat(1017)}"},"owner":"o"}`,
    'invalid-request',
    '/entity',
  ],
  ['both names', claimText(`"effect_id":"${anyId}"`), 'invalid-request', '/type'],
  ['a short effect_id', '{"effect_id":"a.0a","owner":"o"}', 'invalid-request', '/effect_id'],
  ['an effect_id in capitals', `{"effect_id":"${anyId.toUpperCase()}","owner":"o"}`, 'invalid-request', '/effect_id'],
  ['an empty owner', '{"type":"a","entity":"e","owner":""}', 'invalid-request', '/owner'],
  ['a long owner', `{"type":"a","entity":"e","owner":"${'o'.repeat(129)}"}`, 'invalid-request', '/owner'],
  ['an empty claim_id', claimText('"claim_id":""'), 'invalid-request', '/claim_id'],
  ['a long claim_id', claimText(`"claim_id":"${'c'.repeat(129)}"`), 'invalid-request', '/claim_id'],
  ['an empty fingerprint', claimText('"fingerprint":""'), 'invalid-request', '/fingerprint'],
  ['a long fingerprint', claimText(`"fingerprint":"${'f'.repeat(257)}"`), 'invalid-request', '/fingerprint'],
  ['a short lease', claimText('"lease_seconds":0.09'), 'invalid-request', '/lease_seconds'],
  ['a long lease', claimText('"lease_seconds":3600.1'), 'invalid-request', '/lease_seconds'],
  ['a lease as text', claimText('"lease_seconds":"30"'), 'invalid-request', '/lease_seconds'],
  ['a lease of null', claimText('"lease_seconds":null'), 'invalid-request', '/lease_seconds'],
  ['a short retention', claimText('"retention_seconds":0.5'), 'invalid-request', '/retention_seconds'],
  ['a long retention', claimText('"retention_seconds":31536001'), 'invalid-request', '/retention_seconds'],
  ['a policy of no such name', claimText('"on_lease_expiry":"keep"'), 'invalid-request', '/on_lease_expiry'],
  ['metadata that is an array', claimText('"metadata":[]'), 'invalid-request', '/metadata'],
  ['metadata that is no text', claimText('"metadata":{"a":1}'), 'invalid-request', '/metadata'],
  ['long metadata', claimText(`"metadata":{"a":"${'x'.repeat(257)}"}`), 'invalid-request', '/metadata'],
  ['257 emoji as metadata', claimText(`"metadata":{"a":"${'😀'.repeat(257)}"}`), 'invalid-request', '/metadata'],
  ['a long name in metadata', claimText(`"metadata":{"${'x'.repeat(257)}":""}`), 'invalid-request', '/metadata'],
  [
    '17 pairs of metadata',
    claimText(`"metadata":${JSON.stringify(Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ''])))}`),
    'invalid-request',
    '/metadata',
  ],
  ['a job type with a space', claimText('"job_type":"a b"'), 'invalid-request', '/job_type'],
]

t.test('bad input is refused by name, is never a 500, and stores nothing', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  for (const [name, body, slug, pointer] of badClaims) {
    const answer = await app.call('POST', claimUrl, body, { 'content-type': 'application/json' })
    t.equal(code(answer), `400 ${slug}`, name)
    t.match(answer.headers['content-type'], /^application\/problem\+json/, name)
    t.equal(answer.body.type, `/problems/${slug}`, name)
    const { title, detail, request_id, status } = answer.body
    t.ok(title && detail && status === 400 && request_id === answer.headers['x-request-id'], name)
    const pointers = (answer.body.errors ?? []).map((error: { pointer: string }) => error.pointer)
    if (pointer !== undefined) t.ok(pointers.includes(pointer), `${name}: ${JSON.stringify(pointers)}`)
  }
  t.same(await storedKeys(redis.port), [])
})

t.test('the other calls refuse what they do not know as well', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const held = { ...newEffect(), fencing_token: 1 }
  const bad: [path: string, body: object, pointer: string][] = [
    ['complete', { ...held, resul: 1 }, '/resul'],
    ['complete', { ...newEffect() }, '/fencing_token'],
    ['complete', { ...held, fencing_token: '1' }, '/fencing_token'],
    ['complete', { ...held, fencing_token: 0 }, '/fencing_token'],
    ['complete', { ...held, fencing_token: 1.5 }, '/fencing_token'],
    ['fail', held, '/error'],
    ['fail', { ...held, error: 'x', execution: 'maybe' }, '/execution'],
    ['fail', { ...held, error: 'x', retryable: 'yes' }, '/retryable'],
    ['release', { ...held, reason: 'x'.repeat(501) }, '/reason'],
    ['release', { ...held, lease_seconds: 1 }, '/lease_seconds'],
    ['renew', { ...held, lease_seconds: 0 }, '/lease_seconds'],
    [`${anyId}/resolve`, { resolution: 'executed' }, '/reason'],
    [`${anyId}/resolve`, { resolution: 'executed', reason: 'ab' }, '/reason'],
    [`${anyId}/resolve`, { resolution: 'maybe', reason: 'abc' }, '/resolution'],
    [`${anyId}/resolve`, { resolution: 'executed', reason: 'abc', user: '' }, '/user'],
    [`${anyId}/resolve`, { resolution: 'executed', reason: 'abc', effect_id: anyId }, '/effect_id'],
    ['nonsense/resolve', { resolution: 'executed', reason: 'abc' }, '{effect_id}'],
  ]
  for (const [path, body, pointer] of bad) {
    const answer = await app.call('POST', `/api/v1/effects/${path}`, body)
    t.equal(code(answer), '400 invalid-request', `${path} ${JSON.stringify(body)}`)
    t.ok(
      answer.body.errors.some((error: { pointer: string }) => error.pointer === pointer),
      `${pointer} in ${JSON.stringify(answer.body.errors)}`,
    )
  }
  t.same(await storedKeys(redis.port), [])
})

t.test('the largest allowed input is taken', async (t) => {
  const { call } = await startApp(t)
  const entity = { k: 'x'.repeat(1016 - 36) + randomUUID() }
  const metadata = Object.fromEntries(
    Array.from({ length: 16 }, (_, i) => [`${'k'.repeat(254)}${i + 10}`, 'v'.repeat(256)]),
  )
  const wide = { owner: 'o'.repeat(128), claim_id: 'c'.repeat(128), fingerprint: 'f'.repeat(256) }
  const long = { lease_seconds: 3600, retention_seconds: 31_536_000 }
  const type = 'a'.repeat(64)
  const { status, body } = await call('POST', claimUrl, { type, entity, metadata, ...wide, ...long })
  t.equal(status, 201)
  const record = await call('GET', `/api/v1/effects/${body.effect_id}`)
  t.match(record.body, { type, entity, metadata, owner: wide.owner, fingerprint: wide.fingerprint })
  const deep = claimText(`"payload":${nested(31)}`).replace('"e"', `"${randomUUID()}"`)
  t.equal((await call('POST', claimUrl, deep)).status, 201, 'thirty-two levels with the body')
})

t.test('a character is a code point wherever characters are counted', async (t) => {
  const { call } = await startApp(t)
  const emoji = (count: number) => '😀'.repeat(count)
  const claim = {
    ...{ owner: emoji(128), claim_id: emoji(128), fingerprint: emoji(256) },
    metadata: { [emoji(256)]: emoji(256) },
  }
  const { status, body } = await call('POST', claimUrl, { ...newEffect(), ...claim })
  t.equal(status, 201)
  t.same(body.metadata, claim.metadata)
  const { effect_id, fencing_token } = body
  const error = { message: emoji(2001) }
  t.equal((await call('POST', '/api/v1/effects/fail', { effect_id, fencing_token, error })).status, 200)
  t.equal((await call('GET', `/api/v1/effects/${effect_id}`)).body.error.message, emoji(2000))
})

t.test('an unknown query parameter is refused', async (t) => {
  const { call } = await startApp(t)
  const urls = [
    '/api/v1/effects?stat=x',
    `/api/v1/effects/${anyId}?verbose=1`,
    '/api/v1/effects/lookup?type=a&entity=e&x=1',
  ]
  for (const url of urls) {
    const answer = await call('GET', url)
    t.equal(code(answer), '400 invalid-request', url)
    t.match(answer.body.errors[0].pointer, /^\?(stat|verbose|x)$/)
  }
  const answer = await call('POST', `${claimUrl}?wait_seconds=3`, { ...newEffect(), owner: 'o' })
  t.equal(code(answer), '400 invalid-request', 'a member that was sent as a parameter')
  t.equal(answer.body.errors[0].pointer, '?wait_seconds')
})

t.test('the body is JSON in UTF-8 and nothing else', async (t) => {
  const { call } = await startApp(t)
  const send = (type: string | undefined) =>
    call('POST', claimUrl, { ...newEffect(), owner: 'o' }, type === undefined ? {} : { 'content-type': type })
  for (const type of ['application/json', 'application/json; charset=utf-8', 'application/json;charset="UTF-8"'])
    t.equal((await send(type)).status, 201, type)
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/json; charset=latin1',
    'nonsense',
  ])
    t.equal(code(await send(type)), '415 unsupported-media-type', type)
  const empty = await call('POST', claimUrl)
  t.equal(code(empty), '400 invalid-request', 'no body and no type is {}')
  t.ok(empty.body.errors.some(({ pointer }: { pointer: string }) => pointer === '/owner'))
})

t.test('a body over the limit is refused, and one just below is read', async (t) => {
  const { call } = await startApp(t)
  const sized = (bytes: number) => {
    const text = JSON.stringify({ ...newEffect(), owner: 'o', payload: '' })
    return text.replace('"payload":""', `"payload":"${'x'.repeat(bytes - text.length)}"`)
  }
  t.equal(code(await call('POST', claimUrl, sized(1024 * 1024 + 1))), '413 payload-too-large')
  t.equal((await call('POST', claimUrl, sized(1024 * 1024))).status, 201)
})

t.test('a path that is not served is 404, another method 405 with Allow, and HEAD is GET without a body', async (t) => {
  const { call } = await startApp(t)
  t.equal(code(await call('GET', '/api/v1/nothing')), '404 not-found')
  t.equal(code(await call('POST', '/api/v1/effects/claim/')), '404 not-found')
  const refused: [method: string, url: string, allow: string[]][] = [
    ['GET', claimUrl, ['POST']],
    ['PUT', claimUrl, ['POST']],
    ['PATCH', `/api/v1/effects/${anyId}`, ['DELETE', 'GET', 'HEAD']],
    ['DELETE', '/api/v1/effects', ['GET', 'HEAD']],
    ['GET', `/api/v1/effects/${anyId}/resolve`, ['POST']],
    ['OPTIONS', claimUrl, ['POST']],
  ]
  for (const [method, url, allow] of refused) {
    const answer = await call(method, url)
    // `claim` looks like the id of an effect, which GET serves.
    t.equal(code(answer), '405 method-not-allowed', `${method} ${url}`)
    t.same(String(answer.headers['allow']).split(', '), allow, `${method} ${url}`)
  }
  const { effect_id } = await effectCalls({ call }).hold(newEffect())
  const head = await call('HEAD', `/api/v1/effects/${effect_id}`)
  t.equal(head.status, 200)
  t.equal(head.text, '')
  t.equal((await call('HEAD', `/api/v1/effects/${anyId}`)).status, 404)
})

t.test('a sane request id is given back, any other is replaced', async (t) => {
  const { call } = await startApp(t)
  const id = async (sent?: string) => {
    const answer = await call(
      'GET',
      `/api/v1/effects/${anyId}`,
      undefined,
      sent === undefined ? {} : { 'x-request-id': sent },
    )
    t.equal(answer.body.request_id, answer.headers['x-request-id'])
    return answer.headers['x-request-id']
  }
  t.equal(await id('trace-1 of /x?'), 'trace-1 of /x?')
  t.equal(await id('x'.repeat(128)), 'x'.repeat(128))
  for (const sent of [undefined, 'x'.repeat(129), 'é', '']) t.match(await id(sent), /^[0-9a-f-]{36}$/)
  const first = await id()
  t.not(await id(), first)
  const fine = await call('GET', '/api/v1/effects', undefined, { 'x-request-id': 'mine' })
  t.equal(fine.headers['x-request-id'], 'mine', 'with every answer')
})

t.test('who calls decides what is allowed, before what was sent is looked at', async (t) => {
  const namespace = randomNamespace()
  const keys = {
    reader: makeKey('reader', namespace),
    worker: makeKey('worker', namespace),
    operator: makeKey('operator', namespace),
  }
  const config = JSON.stringify({ auth: { keys: Object.values(keys).map(({ entry }) => entry) } })
  const { call } = await startApp(t, { config })
  const calls: [least: keyof typeof keys, method: string, url: string, body?: unknown][] = [
    ['worker', 'POST', claimUrl, 'no JSON'],
    ['worker', 'POST', '/api/v1/effects/complete', {}],
    ['worker', 'POST', '/api/v1/effects/fail', {}],
    ['worker', 'POST', '/api/v1/effects/release', {}],
    ['worker', 'POST', '/api/v1/effects/renew', {}],
    ['worker', 'POST', `/api/v1/effects/${anyId}/resolve`, {}],
    ['operator', 'DELETE', `/api/v1/effects/${anyId}`],
    ['reader', 'GET', '/api/v1/effects?limit=x'],
    ['reader', 'GET', '/api/v1/effects/lookup'],
    ['reader', 'GET', '/api/v1/effects/nonsense'],
  ]
  const ranks = ['reader', 'worker', 'operator'] as const
  for (const [least, method, url, body] of calls) {
    for (const role of ranks) {
      const { status } = await call(method, url, body, keys[role].headers)
      const expected = ranks.indexOf(role) < ranks.indexOf(least) ? 403 : 400
      t.equal(status, expected, `${role}: ${method} ${url}`)
    }
    const nobody = await call(method, url, body)
    t.equal(code(nobody), '401 unauthenticated', `${method} ${url}`)
    t.equal(nobody.headers['www-authenticate'], 'Bearer')
    const stranger = await call(method, url, body, { authorization: `Bearer ${randomUUID()}` })
    t.equal(code(stranger), '401 unauthenticated')
  }
  const large = await call('POST', claimUrl, 'x'.repeat(2_000_000), keys.reader.headers)
  t.equal(code(large), '403 forbidden', 'before a body is read')
  for (const authorization of ['', 'Bearer', 'Basic abc', keys.worker.headers.authorization.replace('Bearer', 'Token')])
    t.equal((await call('GET', '/api/v1/effects', undefined, { authorization })).status, 401, authorization)
})

t.test('a namespace never sees the effects of another', async (t) => {
  const one = makeKey('operator', randomNamespace(), 'one')
  const two = makeKey('operator', randomNamespace(), 'two')
  const app = await startApp(t, { config: JSON.stringify({ auth: { keys: [one.entry, two.entry] } }) })
  const [mine, theirs] = [effectCalls(app, one.headers), effectCalls(app, two.headers)]
  const effect = newEffect()
  const first = await mine.hold(effect)
  const second = await theirs.hold(effect)
  t.equal(first.effect_id, second.effect_id, 'the same name')
  t.not(first.grant.reference, second.grant.reference, 'another reference outside')
  t.equal((await theirs.complete({ ...effect, fencing_token: first.fencing_token })).status, 409)
  await mine.complete({ ...first.held, result: 'mine' })
  t.equal((await theirs.get(second.effect_id)).body.state, 'in_progress')
  t.equal((await theirs.list()).body.effects.length, 1)
  t.equal((await mine.list()).body.effects.length, 0)
})

t.test('without keys only a loopback Host is answered', async (t) => {
  const { call } = await startApp(t)
  const to = (host: string) => call('GET', '/api/v1/effects', undefined, { host })
  for (const host of ['localhost', 'localhost:8000', '127.0.0.1:8000', '127.1.2.3', '[::1]:8000'])
    t.equal((await to(host)).status, 200, host)
  for (const host of ['evil.example', '10.0.0.1', 'localhost.evil.example', '127.0.0.1.evil.example'])
    t.equal(code(await to(host)), '403 forbidden', host)
  const open = await startApp(t, { env: { ALLOW_ANONYMOUS: 'true' } })
  t.equal((await open.call('GET', '/api/v1/effects', undefined, { host: 'evil.example' })).status, 200)
})

t.test('over a real socket a broken request gets a problem or a closed connection, never silence', async (t) => {
  const { app } = await startApp(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const raw = (text: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => socket.write(text))
      let received = ''
      socket.on('data', (chunk) => (received += chunk.toString()))
      socket.on('end', () => resolve(received))
      socket.on('error', reject)
      socket.setTimeout(3000, () => reject(new Error(`silence after ${JSON.stringify(text)}`)))
    })
  t.match(await raw('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /)
  t.match(
    await raw('GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1\.1 400 [^]*problem\+json/,
  )
  t.match(await raw(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /)
  const chunked = await new Promise<number | undefined>((resolve, reject) => {
    const request = http.request({
      port,
      path: claimUrl,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    })
    request.on('response', (response) => resolve(response.resume().statusCode))
    request.on('error', reject)
    const half = JSON.stringify({ ...newEffect(), owner: 'o' })
    request.write(half.slice(0, 10))
    request.end(half.slice(10))
  })
  t.equal(chunked, 201, 'a body in chunks')
})

/** A connection that says raw text and gathers what comes back, until the server ends it. */
function speak(port: number) {
  const socket = net.connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  let received = ''
  socket.on('data', (chunk) => (received += chunk.toString()))
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(received)))
  const statuses = () => [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))
  return { socket, ended, statuses, answered: (count: number) => waitFor(() => statuses().length === count) }
}

const head = (length: number, more = '') =>
  `POST ${claimUrl} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n${more}\r\n`

t.test('over a real socket a body comes in whatever pieces, and one request behind the other', async (t) => {
  const { app, call } = await startApp(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const effects = Array.from({ length: 4 }, () => newEffect())
  const [first = '', second = '', third = '', fourth = ''] = effects.map((effect) =>
    JSON.stringify({ ...effect, owner: 'ö' }),
  )
  const bytes = Buffer.from(third)
  const { socket, statuses, answered } = speak(port)
  socket.write(head(first.length + 1) + first + head(second.length + 1) + second)
  await answered(2)
  socket.write(head(bytes.length, 'Expect: 100-continue\r\n'))
  await answered(3)
  // Through the middle of its ö.
  socket.write(bytes.subarray(0, bytes.indexOf(0xb6)))
  await setTimeout(20)
  socket.write(bytes.subarray(bytes.indexOf(0xb6)))
  await answered(4)
  socket.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
  socket.write(head(fourth.length + 1) + fourth)
  await answered(6)
  t.same(statuses(), [201, 201, 100, 201, 200, 201])
  for (const effect of effects) t.equal((await call('POST', claimUrl, { ...effect, owner: 'b' })).body.owner, 'ö')
  socket.destroy()
})

t.test(
  'over a real socket a body that is too large or cut off ends its connection, and does nothing else',
  async (t) => {
    const { app, call, redis } = await startApp(t)
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    const before = await storedKeys(redis.port)
    const announced = speak(port)
    announced.socket.write(head(1024 * 1024 + 1))
    t.match(await announced.ended, /^HTTP\/1\.1 413 [^]*connection: close[^]*payload-too-large/i)

    const chunked = speak(port)
    const piece = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    chunked.socket.on('error', () => undefined)
    chunked.socket.write(head(0).replace('Content-Length: 0', 'Transfer-Encoding: chunked') + piece.repeat(17))
    t.match(await chunked.ended, /^HTTP\/1\.1 413 [^]*payload-too-large/)

    const cut = speak(port)
    const body = JSON.stringify({ ...newEffect(), owner: 'o' })
    cut.socket.write(head(body.length + 1) + body)
    await setTimeout(20)
    cut.socket.destroy()
    const connections = () => new Promise<number>((resolve) => app.server.getConnections((_, count) => resolve(count)))
    await waitFor(async () => (await connections()) === 0)
    t.same(await storedKeys(redis.port), before)
    t.match(
      (await call('GET', '/metrics')).text,
      'effectonce_faults_total{where="request"} 0',
      'nobody of ours is to blame',
    )
  },
)
