/** What HTTP itself may bring, before any call looks at it: methods, queries, and requests that cannot be read. */
import t from 'tap'
import { once } from 'node:events'
import { maxHeaderSize, METHODS } from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { errorCodes, fastify } from 'fastify'
import { handleError } from '../../src/http/errors.ts'
import { limits } from '../../src/limits.ts'
import { type Answer, startApp, type TestApp } from '../helpers/app.ts'
import { waitFor } from '../helpers/redis-server.ts'

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

t.test('what is too long in a query is refused by the name of its parameter', async (t) => {
  const { call } = await startApp(t)
  const long = 'x'.repeat(limits.entityBytesMax + 1)
  const lookup = (query: string) => call('GET', `/api/v1/effects/lookup?type=a&${query}`)
  t.same(pointers(await lookup(`entity=${long}`)), ['?entity'])
  t.same(pointers(await lookup(`entity_json={"a":"${long}"}`)), ['?entity_json'])
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

// Connections

async function listen({ app }: TestApp): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

/** A caller that reads nothing until it has sent everything; answers what it was sent. */
function sendFirst(port: number, pieces: (string | Buffer)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    const chunks: Buffer[] = []
    socket.pause()
    for (const piece of pieces.slice(0, -1)) socket.write(piece)
    socket.write(pieces.at(-1) ?? '', () => socket.resume())
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('end', () => socket.end())
    socket.on('close', () => resolve(Buffer.concat(chunks).toString()))
    socket.on('error', reject)
  })
}

const head = (path: string, ...lines: string[]) =>
  [`POST ${path} HTTP/1.1`, 'Host: localhost', 'Content-Type: application/json', ...lines, '\r\n'].join('\r\n')

const problemIn = (answer: string): Record<string, unknown> => {
  const text = answer.slice(answer.indexOf('\r\n\r\n') + 4)
  const problem = JSON.parse(text) as Record<string, unknown>
  const [, id] = /^x-request-id: (.*)$/im.exec(answer) ?? []
  return {
    ...problem,
    named: id?.trim() === problem['request_id'] && /^content-type: application\/problem\+json/im.test(answer),
  }
}

const connections = ({ app }: TestApp) =>
  new Promise<number>((resolve) => app.server.getConnections((_, count) => resolve(count)))

t.test('a body that is too large is told of to a caller that sends everything first', async (t) => {
  const service = await startApp(t)
  const port = await listen(service)
  const batch = '/api/v1/effects/batch'
  const body = Buffer.alloc(21 * 1024 * 1024, ' ')
  const chunk = `100000\r\n${' '.repeat(0x10_00_00)}\r\n`
  const small = Buffer.alloc(2 * 1024 * 1024, ' ')
  const sent: [name: string, pieces: (string | Buffer)[]][] = [
    ['announced', [head(batch, `Content-Length: ${body.length}`), body]],
    ['with Connection: close', [head(batch, `Content-Length: ${body.length}`, 'Connection: close'), body]],
    ['in chunks', [head(batch, 'Transfer-Encoding: chunked'), ...Array<string>(21).fill(chunk), '0\r\n\r\n']],
    ['of another call', [head(claimUrl, `Content-Length: ${small.length}`), small]],
  ]
  for (const [name, pieces] of sent) {
    const answer = await sendFirst(port, pieces)
    t.match(answer, /^HTTP\/1\.1 413 [^]*^connection: close/im, name)
    t.match(problemIn(answer), { code: 'payload-too-large', named: true }, name)
  }
  const unread = [head('/api/v1/effects', `Content-Length: ${small.length}`, 'Connection: close'), small]
  t.match(problemIn(await sendFirst(port, unread)), { code: 'method-not-allowed' }, 'a body that nobody reads')
  await waitFor(async () => (await connections(service)) === 0)
})

t.test('who goes on sending after the answer is cut off, by the amount and by the time', async (t) => {
  const service = await startApp(t)
  const port = await listen(service)
  const start = (more: string) => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => undefined)
    socket.resume()
    socket.write(head(claimUrl, more))
    return socket
  }
  const endless = start('Content-Length: 1000000000000')
  const piece = Buffer.alloc(1024 * 1024)
  const more = () => endless.write(piece, (error) => error ?? more())
  more()
  await waitFor(() => endless.destroyed, limits.lingerMs)
  // A gigabyte a second is sent where nothing ends it; a busy machine looks late.
  t.ok(endless.bytesWritten < 8 * limits.lingerBytesMax, `${endless.bytesWritten} bytes`)
  const silent = start('Content-Length: 1000000000000')
  await waitFor(async () => (await connections(service)) === 1)
  await waitFor(async () => (await connections(service)) === 0, 2 * limits.lingerMs)
  silent.destroy()
})

/** What comes back for raw text, until the server ends the connection. */
const say = (port: number, text: string) => sendFirst(port, [text])

t.test('what Node refuses before it is a request is a problem like any other, under an id that is new', async (t) => {
  const port = await listen(await startApp(t))
  const long = 'x'.repeat(2 * maxHeaderSize)
  const refused: [text: string, status: number, code: string][] = [
    ['FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n', 400, 'invalid-request'],
    ['nonsense\r\n\r\n', 400, 'invalid-request'],
    ['\x16\x03\x01\x02', 400, 'invalid-request'],
    [head(claimUrl, 'Content-Length: 1', 'Content-Length: 2'), 400, 'invalid-request'],
    [`GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ${long}\r\n\r\n`, 431, 'headers-too-large'],
    [`GET /livez?${long} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431, 'headers-too-large'],
    [`${head(claimUrl, 'Transfer-Encoding: chunked')}nonsense\r\n`, 400, 'invalid-request'],
  ]
  for (const [text, status, slug] of refused) {
    const name = text.slice(0, 60)
    const answer = await say(port, text)
    t.ok(answer.startsWith(`HTTP/1.1 ${status} `), name)
    t.match(answer, /^connection: close\r$/im, name)
    t.match(problemIn(answer), { code: slug, status, named: true }, name)
  }
})

t.test('a body that ends too early is refused, and does nothing', async (t) => {
  const service = await startApp(t)
  const port = await listen(service)
  const body = JSON.stringify({ type: 'a', entity: `${Math.random()}`, owner: 'o' })
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.end(head(claimUrl, `Content-Length: ${body.length + 1}`) + body)
  const answer = Buffer.concat(await socket.toArray()).toString()
  t.match(problemIn(answer), { code: 'invalid-request', detail: /middle/, named: true })
  t.equal((await service.call('POST', claimUrl, body)).body.attempt, 1)
})

t.test('a byte in a query that is no ASCII is refused', async (t) => {
  const port = await listen(await startApp(t))
  const answer = await say(
    port,
    'GET /api/v1/effects/lookup?type=a&entity=ü HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
  )
  t.match(problemIn(answer), { code: 'invalid-request' })
})

t.test('a request that does not arrive in time is 408, whether it stops or trickles', async (t) => {
  const service = await startApp(t)
  const { server } = service.app
  const port = await listen(service)
  const begin = async (text: string) => {
    const accepted = once(server, 'connection') as Promise<[net.Socket]>
    const answer = say(port, text)
    const [socket] = await accepted
    await waitFor(() => socket.bytesRead === text.length)
    return { socket, answer }
  }
  const half = `${head(claimUrl, 'Content-Length: 100', 'X-Request-Id: mine')}{"type":`
  const stopped = await begin(half)
  // As Node does where nothing has come for as long as `connectionTimeout`.
  stopped.socket.emit('timeout')
  const answer = await stopped.answer
  t.match(answer, /^HTTP\/1\.1 408 [^]*^connection: close/im)
  t.match(problemIn(answer), { code: 'request-timeout', request_id: 'mine', named: true })
  server.requestTimeout = server.headersTimeout = 1
  for (const text of [half, 'GET /livez HTTP/1.1\r\nHost: local'])
    t.match(problemIn(await (await begin(text)).answer), { code: 'request-timeout', named: true }, text)
})

t.test('a connection that is kept and not used ends without a word', async (t) => {
  const service = await startApp(t)
  const accepted = once(service.app.server, 'connection') as Promise<[net.Socket]>
  const answer = say(await listen(service), 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const [socket] = await accepted
  await waitFor(() => socket.bytesWritten > 0)
  socket.emit('timeout')
  t.equal((await answer).match(/HTTP\/1\.1/g)?.length, 1)
})

t.test('nonsense behind a request is not answered in its place', async (t) => {
  const service = await startApp(t)
  const port = await listen(service)
  const body = JSON.stringify({ type: 'a', entity: `${Math.random()}`, owner: 'o' })
  const answer = await say(port, `${head(claimUrl, `Content-Length: ${body.length}`)}${body}nonsense\r\n\r\n`)
  t.notMatch(answer, /^HTTP\/1\.1 4/)
})
