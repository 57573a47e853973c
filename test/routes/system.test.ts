import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fastify } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { z } from 'zod'
import { handleError } from '../../src/http/errors.ts'
import { createDeclare } from '../../src/http/operation.ts'
import { logRequests } from '../../src/http/request-log.ts'
import { limits } from '../../src/limits.ts'
import { createCounts } from '../../src/observability/counts.ts'
import { createHealth } from '../../src/observability/health.ts'
import { createQuestions } from '../../src/observability/in-time.ts'
import { createLog } from '../../src/observability/log.ts'
import { createMetrics } from '../../src/observability/metrics.ts'
import type { Store } from '../../src/redis/client.ts'
import { storeUnavailable } from '../../src/redis/refusals.ts'
import { createInspector, type Facts, judge, worst } from '../../src/redis/inspect.ts'
import { makeKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { freePort, redisCli, type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'

const log = createLog('silent')
const safeArgs = ['--appendonly', 'yes', '--appendfsync', 'always']

/** An app that has looked at its Redis. */
async function startChecked(t: Test, config = '', redis?: RedisServer): Promise<TestApp> {
  const app = await startApp(t, { config, ...(redis === undefined ? {} : { redis }) })
  await app.services.inspector.check()
  return app
}

const metricOf = (text: string, line: string): number | undefined => {
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `))
  return found === undefined ? undefined : Number(found.slice(line.length + 1))
}

// What Redis is

const info = (changed: Record<string, string> = {}) =>
  new Map(
    Object.entries({
      redis_version: '7.0.15',
      redis_mode: 'standalone',
      role: 'master',
      connected_slaves: '0',
      maxmemory: '268435456',
      maxmemory_policy: 'noeviction',
      aof_enabled: '1',
      aof_last_write_status: 'ok',
      ...changed,
    }),
  )
const always = { appendfsync: 'always', 'no-appendfsync-on-rewrite': 'no', save: '' }
const rules = { checkEviction: true, commitments: [], memoryBudgetBytes: 100 * 1024 * 1024 }
const inspect = (changed: Record<string, string>, settings: Facts['settings'] = always) =>
  judge({ info: info(changed), settings }, rules)

t.test('each setting of Redis gets its verdict, and a remedy unless it is well', async (t) => {
  const cases: [name: string, status: string, changed: Record<string, string>, settings?: Facts['settings']][] = [
    ['version', 'ok', {}],
    ['version', 'fail', { redis_version: '6.2.14' }],
    ['version', 'ok', { redis_version: '7.2.4', valkey_version: '8.1.0' }],
    ['version', 'ok', { redis_version: '10.0.0' }],
    ['eviction_policy', 'ok', {}],
    ['eviction_policy', 'fail', { maxmemory_policy: 'allkeys-lru' }],
    ['eviction_policy', 'fail', { maxmemory_policy: 'volatile-ttl' }],
    ['eviction_policy', 'warn', { maxmemory_policy: 'allkeys-lru', maxmemory: '0' }],
    ['persistence', 'ok', {}],
    ['persistence', 'warn', {}, { ...always, appendfsync: 'everysec' }],
    ['persistence', 'warn', {}, { ...always, appendfsync: 'no' }],
    ['persistence', 'warn', {}, { ...always, 'no-appendfsync-on-rewrite': 'yes' }],
    ['persistence', 'fail', { aof_last_write_status: 'err' }],
    ['persistence', 'fail', { aof_enabled: '0' }, { ...always, save: '3600 1' }],
    ['persistence', 'fail', { aof_enabled: '0' }],
    ['maxmemory', 'ok', {}],
    ['maxmemory', 'ok', { maxmemory: '0' }],
    ['maxmemory', 'warn', { maxmemory: '1048576' }],
    ['replicas', 'ok', {}],
    ['replicas', 'ok', { connected_slaves: '1', slave0: 'ip=10.0.0.2,port=6379,state=online,offset=1,lag=0' }],
    ['replicas', 'warn', { connected_slaves: '1', slave0: 'ip=10.0.0.2,port=6379,state=wait_bgsave' }],
    ['replicas', 'fail', { role: 'slave' }],
  ]
  for (const [name, status, changed, settings] of cases) {
    const verdict = inspect(changed, settings).checks.find((check) => check.name === name)
    t.equal(verdict?.status, status, `${name} ${JSON.stringify(changed)}`)
    t.equal(verdict?.remedy === null, status === 'ok', `${name} has a remedy unless it is well`)
  }
})

t.test('what is unsafe is eviction and what is not on disk; what is unsupported is an old version', async (t) => {
  t.match(inspect({}), { supported: true, safe: true, durability: 'aof_always', server: 'redis', version: '7.0.15' })
  t.match(inspect({ maxmemory_policy: 'allkeys-lfu' }), { supported: true, safe: false })
  t.match(inspect({ aof_enabled: '0' }), { supported: true, safe: false, durability: 'none' })
  t.match(inspect({ redis_version: '6.0.0' }), { supported: false, safe: true })
  const valkey = inspect({ redis_version: '7.2.4', valkey_version: '8.1.0' })
  t.match(valkey, { server: 'valkey', version: '8.1.0', supported: true })
  const unchecked = judge(
    { info: info({ maxmemory_policy: 'allkeys-lru' }), settings: always },
    { ...rules, checkEviction: false },
  )
  t.notOk(unchecked.checks.some(({ name }) => name === 'eviction_policy'))
  t.ok(unchecked.safe)
  const unbounded = judge({ info: info({ maxmemory: '0' }), settings: always }, { ...rules, memoryBudgetBytes: null })
  t.match(
    unbounded.checks.find(({ name }) => name === 'maxmemory'),
    { status: 'warn' },
  )
})

t.test('where an ACL forbids CONFIG the check tells what INFO tells', async (t) => {
  const redis = await startRedis(t, { args: safeArgs })
  await redisCli(redis.port, 'ACL', 'SETUSER', 'limited', 'on', '>secret', '~*', '&*', '+@all', '-config')
  const { services } = await startApp(t, { redis, redisUrl: `redis://limited:secret@127.0.0.1:${redis.port}` })
  const { checks, durability, safe } = await services.inspector.check()
  t.equal(durability, 'aof')
  t.ok(safe)
  t.match(
    checks.find(({ name }) => name === 'persistence'),
    { status: 'warn', detail: /CONFIG is forbidden/ },
  )
})

t.test('of several servers the worst verdict counts, and says whose it is', async (t) => {
  const info = (fields: object) => new Map(Object.entries({ redis_version: '7.0.15', ...fields }))
  const facts = (fields: object, appendfsync: string) => ({ info: info(fields), settings: { ...always, appendfsync } })
  const noeviction = { maxmemory: '0', maxmemory_policy: 'noeviction', aof_enabled: '1' }
  const good = judge(facts(noeviction, 'always'), rules)
  const evicting = { ...noeviction, maxmemory: '1', maxmemory_policy: 'allkeys-lru' }
  const bad = judge(facts(evicting, 'everysec'), rules)
  const both = worst([
    { node: 'a:1', inspection: good },
    { node: 'b:2', inspection: bad },
  ])
  t.match(both, { safe: false, supported: true, durability: 'aof_everysec' })
  const eviction = both.checks.find(({ name }) => name === 'eviction_policy')
  t.match(eviction, { status: 'fail', detail: /^b:2: allkeys-lru/ })
  t.ok(worst([{ node: 'a:1', inspection: good }]).safe)
})

t.test('on a server that is too old every store call is refused until a newer one answers', async (t) => {
  const { services, call } = await startChecked(t)
  let version = '6.2.14'
  const older = (reply: unknown) =>
    typeof reply === 'string' ? reply.replace(/redis_version:\S+/, `redis_version:${version}`) : reply
  const eachPrimary: Store['eachPrimary'] = async (...command) =>
    (await services.store.eachPrimary(...command)).map(({ node, reply }) => ({ node, reply: older(reply) }))
  const store = { ...services.store, eachPrimary }
  const inspector = createInspector(store, rules, log)
  await inspector.check()
  const claim = { ...newEffect(), owner: 'bot-1' }
  t.match(await call('POST', '/api/v1/effects/claim', claim), { status: 503, body: { reason: 'misconfigured' } })
  const health = createHealth({
    silentSeconds: () => 0,
    inspection: inspector.latest,
    requireSafe: false,
    graceSeconds: 15,
  })
  t.match(health.read(), { ready: false, reasons: ['redis_too_old'] })
  version = '7.4.0'
  await inspector.check()
  t.match(await call('POST', '/api/v1/effects/claim', claim), { status: 201 })
  t.ok(health.read().ready)
})

t.test('after a reconnect the server is checked again without being asked', async (t) => {
  const redis = await startRedis(t, { args: safeArgs })
  const { services, call } = await startChecked(t, 'redis: {require_safe: true}', redis)
  t.match(await call('GET', '/readyz'), { status: 200 })
  await redisCli(redis.port, 'CONFIG', 'SET', 'appendonly', 'no')
  await redisCli(redis.port, 'CLIENT', 'KILL', 'TYPE', 'normal')
  await waitFor(() => services.inspector.latest()?.safe === false)
  const answer = await call('GET', '/readyz')
  t.match(answer, { status: 503, body: { status: 'not_ready', reasons: ['redis_unsafe'] } })
  t.match(
    answer.body.checks.find(({ name }: { name: string }) => name === 'persistence'),
    { status: 'fail', remedy: /appendonly/ },
  )
})

// Readiness

t.test('livez is 200 whatever happens, and readyz 503 while the process drains', async (t) => {
  const { call, services } = await startChecked(t)
  t.match(await call('GET', '/readyz'), { status: 200, body: { status: 'ready' } })
  services.health.drain()
  t.match(await call('GET', '/readyz'), { status: 503, body: { status: 'not_ready', reasons: ['draining'] } })
  t.match(await call('GET', '/livez'), { status: 200, body: { status: 'live' } })
})

t.test('a short silence of Redis is borne, a longer one and one since the start are not', async (t) => {
  let silent = 0
  let known: ReturnType<typeof inspect> | undefined = undefined
  const health = createHealth({
    silentSeconds: () => silent,
    inspection: () => known,
    requireSafe: false,
    graceSeconds: 15,
  })
  t.match(health.read(), { ready: false, reasons: ['redis_unchecked'] })
  known = inspect({ maxmemory_policy: 'allkeys-lru' })
  t.match(health.read(), { ready: true, reasons: [] }, 'unsafe matters only where safety is required')
  silent = 14.9
  t.match(health.read(), { ready: true, reasons: [] })
  t.match(
    health.read().checks.find(({ name }) => name === 'redis'),
    { status: 'warn' },
  )
  silent = 15.1
  t.match(health.read(), { ready: false, reasons: ['redis_silent'] })
  const impatient = createHealth({
    silentSeconds: () => 1,
    inspection: () => known,
    requireSafe: false,
    graceSeconds: 0,
  })
  t.ok(impatient.read().ready, 'between two polls of the memory nothing is said')
})

t.test('with Redis absent at the start it is not ready, and becomes ready by itself', async (t) => {
  const port = await freePort()
  const { call } = await startApp(t, { redisUrl: `redis://127.0.0.1:${port}`, away: true })
  t.match(await call('GET', '/readyz'), { status: 503, body: { reasons: ['redis_unchecked'] } })
  t.match(await call('GET', '/api/v1/system'), { status: 200, body: { effects: null, redis: { version: null } } })
  await startRedis(t, { port })
  await waitFor(async () => (await call('GET', '/readyz')).status === 200)
})

// Metrics and the system

const reader = makeKey('reader', 'one')
const worker = makeKey('worker', 'one')
const stranger = makeKey('worker', 'two', 'stranger')
const keys = (more = '') =>
  `auth: {keys: ${JSON.stringify([reader, worker, stranger].map(({ entry }) => entry))}${more}}`

t.test('metrics need any key, or none where they are open to everybody', async (t) => {
  const closed = await startChecked(t, keys())
  t.match(await closed.call('GET', '/metrics'), { status: 401 })
  const { status, headers } = await closed.call('GET', '/metrics', undefined, reader.headers)
  t.equal(status, 200)
  t.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  const open = await startChecked(t, keys(', metrics_anonymous: true'))
  t.equal((await open.call('GET', '/metrics')).status, 200)
})

t.test('claims, effects in flight, calls and the store are counted; labels are bounded and name nobody', async (t) => {
  const redis = await startRedis(t)
  const { call } = await startChecked(t, keys(), redis)
  const one = effectCalls({ call }, worker.headers)
  const two = effectCalls({ call }, stranger.headers)
  await one.claim(newEffect('order_placement'))
  await two.claim(newEffect('order_placement'))
  const { held } = await one.hold(newEffect('my_own_type'))
  await one.fail({ ...held, error: 'timed out', execution: 'unknown' })
  const { text } = await call('GET', '/metrics', undefined, reader.headers)
  const value = (line: string) => metricOf(text, line)
  t.equal(value('effectonce_claims_total{type="order_placement",outcome="claimed"}'), 2)
  t.equal(value('effectonce_claims_total{type="other",outcome="claimed"}'), 1)
  t.equal(value('effectonce_effects{type="order_placement",state="in_progress"}'), 2)
  t.equal(value('effectonce_effects{type="other",state="uncertain"}'), 1)
  t.equal(value('effectonce_effects{type="ledger_write",state="uncertain"}'), 0)
  t.equal(value('effectonce_request_seconds_count{route="/api/v1/effects/claim",status="201"}'), 3)
  t.equal(value('effectonce_store_seconds_count{script="effect-claim"}'), 3)
  t.equal(value('effectonce_memory_budget_bytes'), 100 * 1024 * 1024)
  t.notMatch(text, /my_own_type|stranger|namespace=/)
  t.match(text, /^nodejs_eventloop_lag_seconds /m)
})

t.test('a route is counted under its path in openapi.yaml, else as unknown', async (t) => {
  const { call } = await startChecked(t)
  await call('GET', '/api/v1/breakers/place_order')
  await call('POST', '/api/v1/breakers/place_order/check', {})
  await call('GET', '/problems/not-found')
  await call('GET', '/nowhere')
  const { text } = await call('GET', '/metrics')
  const counted = [...text.matchAll(/^effectonce_request_seconds_count\{route="([^"]+)"/gm)].map(([, route]) => route!)
  t.same(counted.toSorted(), [
    ...['/api/v1/breakers/{job_type}', '/api/v1/breakers/{job_type}/check', '/problems/{slug}', 'unknown'],
  ])
  const { paths } = parse(readFileSync('openapi.yaml', 'utf8')) as { paths: object }
  t.same(
    counted.filter((route) => !(route in paths)),
    ['unknown'],
  )
})

t.test('a scrape neither fails nor hangs while Redis hangs; what is not known is left out', async (t) => {
  const redis = await startRedis(t)
  const { call } = await startChecked(t, '', redis)
  await redis.kill('SIGSTOP')
  const start = performance.now()
  const { status, text } = await call('GET', '/metrics')
  t.ok(performance.now() - start < 2 * limits.countsWaitMs)
  t.equal(status, 200)
  t.notMatch(text, /^effectonce_effects\{/m)
  t.match(text, /^effectonce_store_silent_seconds /m)
  await redis.kill('SIGCONT')
})

t.test('counting is shared by those who ask at the same time, and kept for a moment', async (t) => {
  let asked = 0
  const count = async () => new Map([['a', { in_progress: ++asked, uncertain: 1 }]])
  const counts = createCounts(count, ['one', 'two'])
  t.same(
    await Promise.all([counts.of('one'), counts.of('one')]),
    Array(2).fill(new Map([['a', { in_progress: 1, uncertain: 1 }]])),
  )
  t.same(await counts.all(), new Map([['a', { in_progress: 3, uncertain: 2 }]]))
  t.equal(asked, 2)
  const failing = createCounts(() => Promise.reject(storeUnavailable('unavailable')), ['one'])
  t.equal(await failing.all(), null)
})

t.test('gauges ask nothing once Redis is let go of, and that waits for what was asked before', async (t) => {
  const questions = createQuestions()
  let answer = (_counts: number): void => undefined
  const ask = questions.untilEnd(() => new Promise<number>((resolve) => (answer = resolve)))
  const asked = ask()
  const order: string[] = []
  const ended = questions.end().then(() => order.push('ended'))
  t.equal(await ask(), null)
  order.push('answered')
  answer(1)
  t.equal(await asked, 1)
  await ended
  t.same(order, ['answered', 'ended'])
})

t.test('the system tells its state, and of effects only those of the caller', async (t) => {
  const redis = await startRedis(t, { args: safeArgs })
  const { call, services } = await startChecked(t, `${keys()}\nredis: {url: ${redis.url}}`, redis)
  await services.memory.refresh()
  await effectCalls({ call }, worker.headers).claim(newEffect('ledger_write'))
  t.match(await call('GET', '/api/v1/system'), { status: 401 })
  const mine = await call('GET', '/api/v1/system', undefined, reader.headers)
  t.match(mine, {
    status: 200,
    body: {
      version: '0.1.0',
      processes: 1,
      redis: { mode: 'standalone', server: 'redis', durability: 'aof_always' },
      effects: { ledger_write: { in_progress: 1, uncertain: 0 } },
      breakers_not_closed: [],
      memory: { used_bytes: Number, budget_bytes: 104_857_600 },
    },
  })
  t.match(
    mine.body.checks.map(({ name }: { name: string }) => name),
    ['process', 'redis', 'version', 'eviction_policy'],
  )
  const others = await call('GET', '/api/v1/system', undefined, stranger.headers)
  t.same(others.body.effects, {})
})

// Deadlines, logs, faults

t.test('a handler that never ends is answered within the deadline: the outcome is unknown', async (t) => {
  const { mock } = await import('node:test')
  const app = fastify()
  app.setErrorHandler(handleError)
  let began = () => {}
  const running = new Promise<void>((resolve) => (began = resolve))
  const answers = { 200: { description: 'Never.', schema: z.object({}) } }
  createDeclare(app, new Map([['Problem', {}]]))(
    { id: 'waitForever', method: 'GET', url: '/', tag: 'a', role: 'open', summary: 'Never ends', answers },
    () => {
      began()
      return new Promise(() => undefined)
    },
  )
  await app.ready()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const answer = app.inject({ url: '/' })
  await running
  mock.timers.tick(limits.handlerDeadlineMs)
  t.match((await answer).json(), { code: 'store-unavailable', reason: 'outcome_unknown', retry_after_seconds: Number })
})

t.test('a request is one line of the log, without its query, headers and body', async (t) => {
  const lines: string[] = []
  const app = fastify({ genReqId: () => 'a"b' })
  logRequests(app, createMetrics([]), pino({ base: { worker: 1 } }, { write: (line) => lines.push(line) }), () => 1)
  app.post('/a', () => ({}))
  const headers = { authorization: 'Bearer secret' }
  await app.inject({ method: 'POST', url: '/a?entity=secret', headers, payload: { secret: 'secret' } })
  await app.close()
  t.equal(lines.length, 1)
  const told = { msg: 'request', level: 'info', worker: 1, method: 'POST', path: '/a', status: 200, seconds: Number }
  t.match(JSON.parse(lines[0] ?? ''), { ...told, request_id: 'a"b', time: '1970-01-01T00:00:00.001Z' })
  t.notMatch(lines[0], 'secret')
})

t.test('an error that nobody caught is counted and told, and the process goes on', async (t) => {
  const script = `
    import { surviveFaults } from ${JSON.stringify(path.resolve('src/observability/log.ts'))}
    const fault = (where) => process.stdout.write(where + ' ')
    surviveFaults({ error: (_fields, message) => process.stdout.write(message + '; ') }, { fault })
    void Promise.reject(new Error('a'))
    setImmediate(() => { throw new Error('b') })
    setTimeout(() => process.stdout.write('still here'), 20)`
  const child = spawn(process.execPath, [...process.execArgv, '--input-type=module', '--eval', script])
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text) => (said += String(text)))
  t.same(await once(child, 'close'), [0, null])
  t.equal(said, `${'background an error that nobody caught; '.repeat(2)}still here`)
})

// The process

type Process = { url: string; said: () => string; signal(name: NodeJS.Signals): void; ended: Promise<number | null> }

/** Starts the service itself as a process of its own; `env` says where its Redis is. */
async function startProcess(
  t: Test,
  redis: RedisServer,
  config: string,
  env: Record<string, string> = {},
): Promise<Process> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-system-'))
  const file = path.join(dir, 'config.yaml')
  await writeFile(file, config)
  const port = await freePort()
  const child = spawn(process.execPath, [...process.execArgv, path.resolve('src/main.ts')], {
    env: { ...process.env, CONFIG_FILE: file, REDIS_URL: redis.url, PORT: String(port), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += String(text)))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    await rm(dir, { recursive: true, force: true })
  })
  return { url: `http://127.0.0.1:${port}`, said: () => output, signal: (name) => void child.kill(name), ended }
}

t.test('require_safe refuses to start on a Redis that keeps nothing, and says what to do', async (t) => {
  const redis = await startRedis(t)
  const { ended, said } = await startProcess(t, redis, 'redis: {require_safe: true}')
  t.equal(await ended, 1)
  t.match(
    said(),
    'This Redis is not fit for the service:\nNo persistence: a crash loses acknowledged effects. Set `appendonly yes`',
  )
  t.notMatch(said(), 'listens')
})

t.test('SIGTERM: readyz says so while the door is still open, then the process ends well', async (t) => {
  const redis = await startRedis(t, { args: safeArgs })
  const { url, signal, ended, said } = await startProcess(t, redis, 'redis: {require_safe: true}')
  await waitFor(() => said().includes('listens'), 60_000)
  t.match(said(), /redis +redis:\/\/127\.0\.0\.1:\d+; redis 7\.\d+\.\d+, aof_always/)
  t.equal((await fetch(`${url}/readyz`)).status, 200)
  signal('SIGTERM')
  const answer = await waitFor(async () => {
    const response = await fetch(`${url}/readyz`)
    return response.status === 503 && response.json()
  })
  t.match(answer, { reasons: ['draining'] })
  t.equal((await fetch(`${url}/livez`)).status, 200)
  t.equal(await ended, 0)
  t.notMatch(said(), /deprecat/i)
})
