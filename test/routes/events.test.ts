/** The event stream: whoever reads it gets everything in order, once, whatever the pace; nobody gets another's. */
import t from 'tap'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Readable } from 'node:stream'
import { stringify } from 'yaml'
import { createEvents, logEvents } from '../../src/events/events.ts'
import { createEventFeed } from '../../src/events/feed.ts'
import { eventAdd } from '../../src/events/scripts.ts'
import { createEventWriter } from '../../src/events/writer.ts'
import { limits } from '../../src/limits.ts'
import { createLog } from '../../src/observability/log.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { createStreamReader } from '../../src/redis/stream-reader.ts'
import { makeKey, sharedRedis, startApp } from '../helpers/app.ts'
import { promisesHeld } from '../helpers/heap.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'

type TestLike = { teardown(end: () => unknown): void }
type Frame = { id: string | undefined; event: string | undefined; data: Record<string, unknown> }

const keysOf = createKeys('idempotency')
const quietLog = createLog('silent')

/** Takes a stream of server-sent events apart, as it comes. */
function createFrames() {
  let rest = ''
  const frames: Frame[] = []
  const comments: string[] = []
  return {
    frames,
    comments,
    take(text: string): void {
      const blocks = (rest + text).split('\n\n')
      rest = blocks.pop()!
      for (const block of blocks) {
        if (block.startsWith(':') || block.startsWith('retry:')) {
          comments.push(block)
          continue
        }
        const lines = block.split('\n')
        const field = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
        frames.push({ id: field('id'), event: field('event'), data: JSON.parse(field('data')!) as Frame['data'] })
      }
    },
  }
}

/** A reader over HTTP. `open` is false once the service has ended the stream. */
async function connect(t: TestLike, port: number, headers: http.OutgoingHttpHeaders = {}) {
  const { frames, comments, take } = createFrames()
  const request = http.get({ port, host: '127.0.0.1', path: '/api/v1/events', headers, agent: false })
  t.teardown(() => request.destroy())
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on('response', resolve)
    request.on('error', reject)
  })
  const reader = { frames, comments, response, open: true, leave: () => request.destroy() }
  response.setEncoding('utf8').on('data', take)
  response.on('error', () => undefined)
  response.on('close', () => (reader.open = false))
  await waitFor(() => comments.length > 0)
  return reader
}

/** An app that listens, with readers of two namespaces. */
async function listen(t: TestLike, options: { redisUrl?: string } = {}) {
  const namespace = randomNamespace()
  const other = randomNamespace()
  const [reader, foreign] = [makeKey('reader', namespace), makeKey('reader', other, 'foreign')]
  const config = stringify({ auth: { keys: [reader.entry, foreign.entry] } })
  const app = await startApp(t, { config, ...options })
  await app.app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.app.server.address() as AddressInfo
  const emit = (n: number, to = namespace) =>
    app.services.events.emit({ event: 'effect.reclaimed', namespace: to, effect_id: `e.${n}`, owner: 'o', attempt: n })
  const read = (headers = {}, key = reader) => connect(t, port, { ...key.headers, ...headers })
  return { ...app, port, namespace, other, reader, foreign, emit, read }
}

const attempts = (frames: Frame[]) => frames.map(({ data }) => data['attempt'])
const oneTo = (count: number) => Array.from({ length: count }, (_, at) => at + 1)
const clientsNamed = async (port: number, name: string) =>
  String(await redisCli(port, 'CLIENT', 'LIST')).split(`name=${name} `).length - 1

/** Emits an event and waits until the reader has it: it has caught up then. */
async function caughtUp(reader: { frames: Frame[] }, emit: () => void): Promise<void> {
  const before = reader.frames.length
  emit()
  await waitFor(() => reader.frames.length > before)
}

t.test('an event arrives with its id, name, instant and facts, and without the namespace', async (t) => {
  const { services, namespace, read } = await listen(t)
  const reader = await read()
  t.match(reader.response, { statusCode: 200, headers: { 'content-type': 'text/event-stream' } })
  t.equal(reader.response.headers['cache-control'], 'no-store')
  await waitFor(() => services.eventFeed.readers() === 1)
  const facts = { job_type: 'place', failure_count: 10, text: 'a "b"\n\nc\u2028' }
  services.events.emit({ event: 'breaker.opened', namespace, ...facts })
  await waitFor(() => reader.frames.length === 1)
  const [{ id, event, data }] = reader.frames as [Frame]
  t.match(id, /^\d+-\d+$/)
  t.equal(event, 'breaker.opened')
  const { at, ...others } = data
  t.strictSame(others, { event: 'breaker.opened', ...facts })
  t.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
})

t.test('namespaces never see each other, and what concerns the store reaches all', async (t) => {
  const { services, other, foreign, emit, read } = await listen(t)
  const [mine, theirs] = [await read(), await read({}, foreign)]
  await caughtUp(mine, () => emit(1))
  await caughtUp(theirs, () => emit(2, other))
  services.events.emit({ event: 'store.trouble', reason: 'loading' })
  await waitFor(() => mine.frames.length === 2 && theirs.frames.length === 2)
  t.strictSame(
    mine.frames.map(({ data }) => data['attempt'] ?? data['reason']),
    [1, 'loading'],
  )
  t.strictSame(
    theirs.frames.map(({ data }) => data['attempt'] ?? data['reason']),
    [2, 'loading'],
  )
})

t.test('who may not read gets a problem, and so does a Last-Event-ID that is none', async (t) => {
  const { call, reader } = await listen(t)
  const url = '/api/v1/events'
  const refused = await call('GET', url)
  t.match(refused, { status: 401, body: { code: 'unauthenticated' } })
  t.match(refused.headers['content-type'], /^application\/problem\+json/)
  const headers = { ...reader.headers, 'last-event-id': 'yesterday' }
  const errors = [{ pointer: 'Last-Event-ID' }]
  t.match(await call('GET', url, undefined, headers), { status: 400, body: { code: 'invalid-request', errors } })
})

t.test('a reader that comes back again and again loses nothing and gets nothing twice', async (t) => {
  const { services, emit, read } = await listen(t)
  const count = 1500
  const frames: Frame[] = []
  const first = await read()
  await caughtUp(first, () => emit(1))
  frames.push(...first.frames)
  first.leave()
  let emitted = 1
  const emitMore = (upTo: number) => {
    while (emitted < Math.min(upTo, count)) emit(++emitted)
  }
  while (frames.length < count) {
    emitMore(emitted + 60)
    const reader = await read({ 'last-event-id': frames.at(-1)!.id })
    emitMore(emitted + 60)
    await waitFor(() => reader.frames.length > 0)
    emitMore(emitted + 60)
    frames.push(...reader.frames)
    reader.leave()
  }
  await services.eventWriter.settled()
  t.strictSame(attempts(frames), oneTo(count))
})

t.test('events that are no longer kept are a gap, and then come those that are', async (t) => {
  const { services, namespace, emit, read, redis } = await listen(t)
  for (const n of oneTo(10)) emit(n)
  await services.eventWriter.settled()
  const stream = keysOf.events(namespace)
  const ids = ((await redisCli(redis.port, 'XRANGE', stream, '-', '+')) as [string, unknown][]).map(([id]) => id)
  const whole = await read({ 'last-event-id': '0' })
  await waitFor(() => whole.frames.length === 10)
  t.strictSame(attempts(whole.frames), oneTo(10), 'from the beginning there is no gap')

  await redisCli(redis.port, 'XTRIM', stream, 'MAXLEN', '=', 4)
  const behind = await read({ 'last-event-id': ids[2] })
  await waitFor(() => behind.frames.length === 5)
  t.match(behind.frames[0], { id: undefined, event: 'gap', data: { event: 'gap', after: ids[2] } })
  t.strictSame(attempts(behind.frames.slice(1)), [7, 8, 9, 10])

  const within = await read({ 'last-event-id': ids[7] })
  await waitFor(() => within.frames.length === 2)
  t.strictSame(attempts(within.frames), [9, 10])

  await redisCli(redis.port, 'DEL', stream)
  const emptied = await read({ 'last-event-id': ids[7] })
  await waitFor(() => emptied.frames.length === 1)
  await caughtUp(emptied, () => emit(11))
  t.strictSame(
    emptied.frames.map(({ event }) => event),
    ['gap', 'effect.reclaimed'],
    'an emptied store is one gap',
  )
})

t.test('the stream keeps the newest 10,000 and at most a hundred more', async (t) => {
  const { services, namespace, redis } = await listen(t)
  const stream = keysOf.events(namespace)
  const sender = keysOf.eventSender(namespace, 'test')
  const total = limits.eventsKept + 500
  for (let from = 1; from <= total; from += 500) {
    const batch = oneTo(500).map((n) => [from + n - 1, 'effect.deleted', `{"n":${from + n - 1}}`, 0])
    const args = { entries: JSON.stringify(batch), sender_ms: 1000 }
    await services.store.run(eventAdd, [stream, sender], args)
  }
  const length = Number(await redisCli(redis.port, 'XLEN', stream))
  t.ok(length >= limits.eventsKept && length <= limits.eventsKept + 100, `${length}`)
})

t.test('200 readers share one connection to Redis, which goes when they go', async (t) => {
  const redis = await startRedis(t)
  const { services, emit, read } = await listen(t, { redisUrl: redis.url })
  const readers = await Promise.all(oneTo(200).map(() => read()))
  for (const n of oneTo(20)) emit(n)
  await waitFor(() => readers.every(({ frames }) => frames.length === 20))
  t.ok(readers.every(({ frames }) => attempts(frames).join() === oneTo(20).join()))
  t.equal(await clientsNamed(redis.port, 'effectonce-events'), 1)
  t.equal(await clientsNamed(redis.port, 'effectonce'), 1)
  for (const reader of readers) reader.leave()
  await waitFor(() => services.eventFeed.readers() === 0)
  await waitFor(async () => (await clientsNamed(redis.port, 'effectonce-events')) === 0)
})

t.test('a reader of another namespace is heard while the connection waits for the first', async (t) => {
  const { other, foreign, emit, read } = await listen(t)
  const mine = await read()
  await caughtUp(mine, () => emit(1))
  const theirs = await read({}, foreign)
  await caughtUp(theirs, () => emit(2, other))
  await caughtUp(mine, () => emit(3))
  t.strictSame([attempts(mine.frames), attempts(theirs.frames)], [[1, 3], [2]])
})

t.test('a drain ends every stream', async (t) => {
  const { app, emit, read } = await listen(t)
  const readers = [await read(), await read()]
  await caughtUp(readers[0]!, () => emit(1))
  const startMs = performance.now()
  await app.close()
  t.ok(performance.now() - startMs < 2000, 'closing does not wait for readers')
  await waitFor(() => readers.every(({ open }) => !open))
})

t.test('an outage of Redis loses no event and no reader', async (t) => {
  const redis = await startRedis(t, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  const { services, emit, read } = await listen(t, { redisUrl: redis.url })
  const reader = await read()
  await caughtUp(reader, () => emit(1))
  await redis.stop()
  for (const n of [2, 3, 4]) emit(n)
  await redis.restart()
  // The restart is an event too.
  const emitted = () => reader.frames.filter(({ data }) => data['event'] !== 'store.changed')
  await waitFor(() => emitted().length === 4, 10_000)
  emit(5)
  await waitFor(() => emitted().length === 5)
  t.strictSame(attempts(emitted()), oneTo(5))
  t.ok(reader.open)
  const age = Date.parse(String(emitted()[4]!.data['at'])) - Date.parse(String(emitted()[1]!.data['at']))
  t.ok(age > 0, 'events that waited keep the time at which they happened')
  t.equal(services.eventFeed.readers(), 1)
})

/** A feed of its own on the shared Redis. */
async function ownFeed(t: TestLike, options: { heartbeatMs?: number; stuckMs?: number } = {}) {
  const { services, namespace, emit } = await listen(t)
  const { url } = await sharedRedis()
  const tail = createStreamReader({ url, username: null, password: null, tls: null }, services.store)
  const feed = createEventFeed({ store: services.store, keys: keysOf, tail, log: quietLog, ...options })
  t.teardown(() => feed.close())
  return { services, namespace, emit, feed }
}

/** Takes everything that a stream gives. */
function follow(stream: Readable) {
  const { frames, comments, take } = createFrames()
  stream.setEncoding('utf8').on('data', take)
  return { frames, comments }
}

t.test('what waits for a slow reader is bounded, and it loses nothing', async (t) => {
  const { services, namespace, feed } = await ownFeed(t)
  const [slow, quick] = [feed.open(namespace, undefined), follow(feed.open(namespace, undefined))]
  const emit = (n: number) => {
    const large = { owner: 'x'.repeat(1000), attempt: n }
    services.events.emit({ event: 'effect.reclaimed', namespace, effect_id: 'e', ...large })
  }
  // Both hear of what comes: the quick one got one that was emitted after both had begun.
  await waitFor(() => feed.readers() === 2 && quick.comments.length === 1)
  await caughtUp(quick, () => emit(0))
  const count = 3000
  let most = 0
  for (let n = 1; n <= count; n++) {
    emit(n)
    if (n % 200 === 0) {
      await services.eventWriter.settled()
      await waitFor(() => quick.frames.length >= n)
      most = Math.max(most, slow.readableLength)
    }
  }
  await waitFor(() => quick.frames.length === count + 1)
  t.ok(most > 100_000, 'it had much to read')
  t.ok(most < limits.eventReaderBytesMax + limits.eventPageMax * 1300, `${most} bytes waited`)
  const { frames } = follow(slow)
  await waitFor(() => frames.at(-1)?.data['attempt'] === count)
  t.strictSame(attempts(frames).slice(-count), oneTo(count))
})

t.test('a reader that falls behind again and again leaves nothing behind in memory', async (t) => {
  const { services, namespace, feed } = await ownFeed(t)
  const [first, more] = [5, 40]
  const at = [keysOf.events(namespace), keysOf.eventSender(namespace, 'test')]
  const data = JSON.stringify({ owner: 'x'.repeat(limits.eventReaderBytesMax / limits.eventPageMax) })
  const page = (n: number) => oneTo(limits.eventPageMax).map((m) => [n * limits.eventPageMax + m, 'e', data, 0])
  for (const n of oneTo(first + more)) {
    await services.store.run(eventAdd, at, { entries: JSON.stringify(page(n)), sender_ms: 1000 })
  }
  const slow = feed.open(namespace, '0-0')
  const fallBehind = async () => {
    await waitFor(() => slow.readableLength > limits.eventReaderBytesMax)
    slow.read()
  }
  for (let times = 0; times < first; times++) await fallBehind()
  const before = promisesHeld()
  for (let times = 0; times < more; times++) await fallBehind()
  const held = promisesHeld() - before
  t.ok(held < more, `${held} promises more`)
})

t.test('a reader that takes nothing for too long is let go', async (t) => {
  const { services, namespace, feed } = await ownFeed(t, { stuckMs: 20 })
  const stuck = feed.open(namespace, '0-0')
  for (const n of oneTo(400)) {
    const large = { owner: 'x'.repeat(1000), attempt: n }
    services.events.emit({ event: 'effect.reclaimed', namespace, effect_id: 'e', ...large })
  }
  await waitFor(() => stuck.destroyed)
  t.ok(await waitFor(() => feed.readers() === 0))
})

t.test('a silent stream has heartbeats', async (t) => {
  const { namespace, feed } = await ownFeed(t, { heartbeatMs: 10 })
  const { comments, frames } = follow(feed.open(namespace, undefined))
  await waitFor(() => comments.length >= 4)
  t.strictSame([comments[0], ...new Set(comments.slice(1))], [`retry: ${limits.eventClientRetryMs}`, ': heartbeat'])
  t.strictSame(frames, [])
})

t.test('a stream that is opened while the service drains ends at once', async (t) => {
  const { namespace, feed } = await ownFeed(t)
  feed.close()
  const late = feed.open(namespace, undefined)
  late.resume()
  await waitFor(() => late.readableEnded)
  t.equal(feed.readers(), 0)
})

t.test('an event that was written is not written again after a lost reply', async (t) => {
  const { services, namespace, redis } = await listen(t)
  const at = [keysOf.events(namespace), keysOf.eventSender(namespace, 'process')]
  const add = (numbers: number[]) => {
    const entries = JSON.stringify(numbers.map((n) => [n, 'effect.deleted', `{"n":${n}}`, 0]))
    return services.store.run(eventAdd, at, { entries, sender_ms: 1000 })
  }
  await add([1, 2])
  await add([1, 2])
  await add([2, 3])
  t.equal(await redisCli(redis.port, 'XLEN', at[0]!), 3)
})

t.test('events that wait for the store are bounded, and what is lost is counted', async (t) => {
  const { services } = await startApp(t, { redisUrl: 'redis://127.0.0.1:1', away: true })
  const events = createEvents(quietLog)
  let lost = 0
  const options = { store: services.store, keys: keysOf, events, namespaces: ['a', 'b'], log: quietLog }
  const writer = createEventWriter({ ...options, lost: (number) => (lost += number) })
  const startMs = performance.now()
  for (let n = 0; n < limits.eventQueueMax + 10; n++) events.emit({ event: 'store.trouble', reason: 'loading' })
  t.ok(performance.now() - startMs < 1000, 'nobody waits')
  t.equal(lost, 20)
  events.tell({ event: 'store.trouble', reason: 'loading' })
  t.equal(lost, 20, 'what a script has written is not written again')
  await writer.stop()
  t.equal(lost, 20 + 2 * limits.eventQueueMax)
})

t.test('a listener that throws spoils nothing, and an opened circuit is logged as fatal', async (t) => {
  const log = createLog('silent')
  const logged: string[] = []
  for (const level of ['fatal', 'error', 'warn', 'info'] as const) {
    log[level] = ((_: unknown, text: string) => logged.push(`${level} ${text}`)) as never
  }
  const events = createEvents(log)
  const unsubscribe = events.subscribe(() => {
    throw new Error('mine')
  })
  logEvents(events, log)
  events.tell({ event: 'breaker.opened', namespace: 'a', job_type: 'j' })
  unsubscribe()
  events.emit({ event: 'breaker.closed', namespace: 'a', job_type: 'j' })
  t.strictSame(logged, ['error a listener failed', 'fatal breaker.opened', 'info breaker.closed'])
})
