/**
 * The chaos, race and safety scenarios of the original Python package, under their names there, against this service:
 * every worker is a caller of one of two instances on one real Redis. docs/seed.md says what became of everything else.
 */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing } from '../helpers/effects.ts'
import { redisCli, type RedisServer, startRedis, storedKeys, waitFor } from '../helpers/redis-server.ts'

const newJob = () => `job:${randomUUID()}`
const breakerPath = (job: string, call = '') => `/api/v1/breakers/${job}${call}`
const durable = ['--appendonly', 'yes', '--appendfsync', 'always']

/** Two instances, as behind a load balancer; the worker with number `n` calls `at(n)`. */
async function startTwo(t: Test, redis?: RedisServer) {
  const options = redis === undefined ? {} : { redis }
  const apps = [await startApp(t, options), await startApp(t, options)] as const
  const effects = apps.map((app) => effectCalls(app))
  for (const { list } of effects) await waitFor(async () => (await list()).status === 200, 10_000)
  return { apps, one: apps[0], at: (n: number) => effects[n % 2]!, appOf: (n: number) => apps[n % 2]! }
}

/** So many workers at once. */
const workers = <T>(count: number, work: (n: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, n) => work(n)))

/** Ten failures, which is the threshold, reported by ten workers at once. */
const storm = (appOf: (n: number) => TestApp, job: string) =>
  workers(10, (n) => appOf(n).call('POST', breakerPath(job, '/failure'), { owner: `bot-${n}`, error: 'timeout' }))

t.test('chaos: test_redis_crash_mid_retry', async (t) => {
  const redis = await startRedis(t, { args: durable })
  const { at } = await startTwo(t, redis)
  const effect = newEffect()
  const first = await at(0).hold(effect)
  t.equal((await at(0).fail({ ...first.held, ...passing })).body.outcome, 'released')
  const retry = await at(0).hold(effect)
  await redis.kill('SIGKILL')
  for (const n of [0, 1]) t.match(await at(n).claim(effect), { status: 503, body: { code: 'store-unavailable' } })
  t.equal((await at(0).complete(retry.held)).status, 503)
  await redis.restart()
  await waitFor(async () => (await at(1).get(retry.effect_id)).status === 200, 10_000)
  t.match((await at(1).claim(effect)).body, { code: 'effect-in-progress', attempt: 2 }, 'the retry is still held')
  const done = await waitFor(async () => {
    const answer = await at(0).complete({ ...retry.held, result: 'order_1' })
    return answer.status === 503 ? undefined : answer
  }, 10_000)
  t.equal(done.status, 200, 'its holder reports what happened')
  t.match((await at(1).claim(effect)).body, { outcome: 'completed', result: 'order_1', attempt: 2 })
})

t.test('chaos: test_double_worker_retry_race', async (t) => {
  const { at } = await startTwo(t)
  const effect = newEffect()
  const first = await at(0).hold(effect)
  await at(0).fail({ ...first.held, ...passing })
  const answers = await workers(2, (n) => at(n).claim({ ...effect, owner: `bot-${n}` }))
  t.same(answers.map(({ status }) => status).toSorted(), [201, 409], 'of two workers one executes')
  t.match(answers.find(({ status }) => status === 201)?.body, { outcome: 'claimed', attempt: 2 })
  t.match(answers.find(({ status }) => status === 409)?.body, { code: 'effect-in-progress', attempt: 2 })
})

t.test('chaos: test_network_failure_during_side_effect', async (t) => {
  const { at } = await startTwo(t)
  const neverSent = newEffect()
  const unsent = await at(0).hold(neverSent)
  const refused = await at(0).fail({ ...unsent.held, error: 'connect ECONNREFUSED 10.0.0.1:443' })
  t.match(refused.body, { outcome: 'released', classification: { failure_type: 'NETWORK_ERROR', execution: 'no' } })
  t.match(await at(1).claim(neverSent), { status: 201, body: { attempt: 2 } }, 'rolled back: another may try')

  const perhapsSent = newEffect()
  const sent = await at(0).hold(perhapsSent)
  const lost = await at(0).fail({ ...sent.held, error: 'read ECONNRESET' })
  t.match(lost.body, { outcome: 'uncertain', classification: { failure_type: 'NETWORK_ERROR', execution: 'unknown' } })
  t.match(await at(1).claim(perhapsSent), { status: 409, body: { code: 'effect-uncertain' } })
  const { fencing_token } = (await at(1).get(sent.effect_id)).body
  const absent = { resolution: 'not_executed', reason: 'no such order there', fencing_token }
  t.equal((await at(1).resolve(sent.effect_id, absent)).status, 200)
  t.match(await at(1).claim(perhapsSent), { status: 201 }, 'after somebody has looked it may be tried again')
})

t.test('chaos: test_duplicate_retry_storm', async (t) => {
  const { at } = await startTwo(t)
  const effect = newEffect()
  let executions = 0
  const answers = await workers(10, async (n) => {
    const { status, body } = await at(n).claim({ ...effect, owner: `bot-${n}` })
    if (status !== 201) return status
    executions++
    return (await at(n).complete({ ...effect, fencing_token: body.fencing_token, result: 'order_123' })).status
  })
  t.equal(executions, 1, 'of ten workers one executes')
  for (const status of answers) t.ok(status === 200 || status === 409, String(status))
  const later = await workers(10, (n) => at(n).claim({ ...effect, owner: `bot-${n}` }))
  for (const { status, body } of later) t.match({ status, body }, { status: 200, body: { result: 'order_123' } })
})

t.test('chaos: test_circuit_breaker_triggers_on_storm', async (t) => {
  const { one, at, appOf, apps } = await startTwo(t)
  const job_type = newJob()
  await storm(appOf, job_type)
  const { body } = await one.call('GET', breakerPath(job_type))
  t.match(body, { state: 'open', version: 1, failure_count: 10, requires_override: true })
  for (const n of [0, 1]) {
    const refused = await at(n).claim({ ...newEffect(), job_type })
    t.match(refused, { status: 409, body: { code: 'circuit-open', requires_override: true } })
  }
  const opened = apps.flatMap(({ events }) => events).filter(({ event }) => event === 'breaker.opened')
  t.match(opened, [{ job_type }], 'one alert')
  t.equal(opened.length, 1)
})

t.test('chaos: test_circuit_breaker_half_open_on_override', async (t) => {
  const { one, appOf } = await startTwo(t)
  const job = newJob()
  await storm(appOf, job)
  t.equal(
    (await one.call('POST', breakerPath(job, '/override'), { user: 'admin' })).status,
    400,
    'not without a reason',
  )
  const reason = 'Verified system recovered'
  const overridden = await one.call('POST', breakerPath(job, '/override'), { user: 'admin', reason })
  t.match(overridden.body, { state: 'half_open', last_override: { user: 'admin', reason, at: /Z$/ } })
  const checks = await workers(6, (n) => appOf(n).call('POST', breakerPath(job, '/check')))
  t.equal(checks.filter(({ body }) => body.allowed).length, 1, 'one probe over all workers')
  const { body } = await one.call('GET', '/api/v1/audit')
  const entry = body.entries.find(({ subject }: { subject: string }) => subject.includes(job))
  t.match(entry, { user: 'admin', reason, at: /Z$/ }, 'who, why and when')
})

t.test('chaos: test_circuit_breaker_closes_on_success', async (t) => {
  const { one, at, appOf } = await startTwo(t)
  const job_type = newJob()
  await storm(appOf, job_type)
  await one.call('POST', breakerPath(job_type, '/override'), { reason: 'looks well again' })
  const { held } = await at(0).hold(newEffect(), { job_type })
  t.equal((await at(0).complete(held)).status, 200)
  t.match((await one.call('GET', breakerPath(job_type))).body, { state: 'closed', failure_count: 0, version: 3 })
  t.match((await appOf(1).call('POST', breakerPath(job_type, '/check'))).body, { allowed: true, reason: 'closed' })
})

t.test('race: test_concurrent_mark_executed', async (t) => {
  const { at } = await startTwo(t)
  const { held } = await at(0).hold(newEffect())
  const answers = await workers(5, (n) => at(n).complete({ ...held, result: n }))
  const [winner, ...others] = answers.toSorted((a, b) => a.status - b.status)
  t.equal(winner?.status, 200, 'of five workers one succeeds')
  for (const { body } of others) t.equal(body.code, 'result-conflict')
  t.equal((await at(0).get(held.effect_id)).body.result, answers.indexOf(winner!))
})

t.test('race: test_check_and_execute_race', async (t) => {
  const { at } = await startTwo(t)
  const effect = newEffect('signal_consumption')
  const answers = await workers(3, (n) => at(n).claim({ ...effect, owner: `bot-${n}`, result: n }))
  t.same(answers.map(({ status }) => status).toSorted(), [200, 200, 201], 'of three workers one executes')
  const won = answers.findIndex(({ status }) => status === 201)
  for (const { status, body } of answers) if (status === 200) t.match(body, { outcome: 'completed', result: won })
})

t.test('race: test_ttl_expiry_race', async (t) => {
  const { one, at } = await startTwo(t)
  const effect = newEffect()
  const done = await at(0).hold(effect, { retention_seconds: 1 })
  await at(0).complete({ ...done.held, result: 'order_1' })
  const round = () => workers(5, (n) => at(n).claim({ ...effect, owner: `bot-${n}` }))
  const statuses = await waitFor(async () => {
    const answers = (await round()).map(({ status }) => status)
    return answers.includes(201) ? answers : undefined
  })
  t.equal(statuses.filter((status) => status === 201).length, 1, 'while the record expires one gets the effect')
  const { body: fresh } = await at(0).get(done.effect_id)
  t.ok(fresh.fencing_token > done.fencing_token, 'a later token')
  await one.moveClock(31)
  for (const answer of await round())
    t.match(answer.body, { code: 'effect-uncertain' }, 'an expired lease frees nothing')
})

t.test('metrics under chaos: test_metrics_during_concurrent_retries', async (t) => {
  const { appOf } = await startTwo(t)
  const job = newJob()
  await workers(20, async (n) => {
    const record = (call: string, body: object) => appOf(n).call('POST', `/api/v1/retries/${job}/${call}`, body)
    t.equal((await record('attempt', { attempt_number: 2 })).status, 204)
    t.equal((await record(n < 15 ? 'success' : 'failure', {})).status, 204)
  })
  const totals = { attempts: 20, successes: 15, failures: 5, blocked: 0 }
  for (const n of [0, 1]) {
    const read = async () => (await appOf(n).call('GET', `/api/v1/jobs/metrics/${job}`)).body
    const metrics = await waitFor(async () => {
      const body = await read()
      return body.totals.successes + body.totals.failures === 20 && body
    })
    t.match(metrics, { totals, retry_success_rate: 75, retry_failure_rate: 25, avg_attempts: 2 })
  }
})

t.test('metrics under chaos: test_metrics_survive_redis_hiccup', async (t) => {
  const redis = await startRedis(t)
  const { one } = await startTwo(t, redis)
  const job = newJob()
  const attempt = (event_id: string) =>
    one.call('POST', `/api/v1/retries/${job}/attempt`, { attempt_number: 2, event_id })
  t.equal((await attempt('a')).status, 204)
  await redis.kill('SIGSTOP')
  t.match(await attempt('b'), { status: 503, body: { code: 'store-unavailable' } })
  await redis.kill('SIGCONT')
  await waitFor(async () => (await attempt('b')).status === 204, 10_000)
  const metrics = await waitFor(async () => {
    const { status, body } = await one.call('GET', `/api/v1/jobs/metrics/${job}`)
    return status === 200 && body.totals.attempts >= 2 && body
  })
  t.equal(metrics.totals.attempts, 2, 'nothing lost, and nothing twice although it was sent twice')
  t.match((await one.call('GET', '/api/v1/jobs/metrics/prometheus')).text, `retry_attempts_total{job_type="${job}"} 2`)
})

t.test('safety: retry guards active: side effect guard functional', async (t) => {
  const { at } = await startTwo(t)
  const order = { symbol: 'BTCUSDT', side: 'BUY', quantity: 0.001, price: 50000.0, run: randomUUID() }
  const effect = { type: 'order_placement', entity: order }
  const { held, grant } = await at(0).hold(effect)
  t.match(grant, { effect_id: /^order_placement\.[0-9a-f]{64}$/ })
  await at(0).complete({ ...held, result: 'order_123' })
  t.match(await at(1).claim(effect), { status: 200, body: { outcome: 'completed', result: 'order_123' } })
})

t.test('safety: retry guards active: circuit breaker functional', async (t) => {
  const { one, appOf } = await startTwo(t)
  const [stormy, calm] = [newJob(), newJob()]
  await storm(appOf, stormy)
  t.equal((await one.call('POST', breakerPath(stormy, '/check'))).body.allowed, false)
  t.equal((await one.call('POST', breakerPath(calm, '/check'))).body.allowed, true, 'one breaker per job type')
})

t.test('safety: retry guards active: retry metrics functional', async (t) => {
  const { one } = await startTwo(t)
  const job = newJob()
  const record = (call: string, body: object) => one.call('POST', `/api/v1/retries/${job}/${call}`, body)
  await record('attempt', { attempt_number: 2 })
  await record('success', {})
  await record('blocked', { reason: 'circuit_open' })
  const { body } = await one.call('GET', `/api/v1/jobs/metrics/${job}`)
  t.match(body, { retry_success_rate: 100, retry_failure_rate: 0, retry_block_rate: 50, avg_attempts: 2 })
  t.match(body, { blocked_by_reason: { circuit_open: 1 } })
  t.ok(body.retry_rate_per_minute > 0)
})

t.test('safety: retry guards active: failure classifier functional', async (t) => {
  const { one } = await startTwo(t)
  const expected: [number, string, boolean][] = [
    [-1003, 'RATE_LIMIT', true],
    [-1021, 'TIMEOUT', true],
    [-1006, 'TEMPORARY_ERROR', true],
    [-2010, 'INSUFFICIENT_BALANCE', false],
    [-1013, 'VALIDATION_ERROR', false],
    [-1111, 'VALIDATION_ERROR', false],
    [-1102, 'BAD_REQUEST', false],
  ]
  for (const [code, failure_type, retryable] of expected) {
    for (const error of [{ code, exchange: 'binance' }, `BinanceAPIException: ${code} text`]) {
      const { body } = await one.call('POST', '/api/v1/failures/classify', { error })
      t.match(body, { failure_type, retryable, code }, JSON.stringify(error))
    }
  }
})

const idempotent = {
  'order placement': 'order_placement',
  'position update': 'position_update',
  'PnL write': 'pnl_write',
}
for (const [name, type] of Object.entries(idempotent)) {
  t.test(`safety: side effects idempotent: ${name}`, async (t) => {
    const { at } = await startTwo(t)
    const effect = newEffect(type)
    let executions = 0
    for (let n = 0; n < 4; n++) {
      const { status, body } = await at(n).claim({ ...effect, owner: `bot-${n}` })
      if (status !== 201) t.match({ status, body }, { status: 200, body: { outcome: 'completed', result: { run: 1 } } })
      else await at(n).complete({ ...effect, fencing_token: body.fencing_token, result: { run: ++executions } })
    }
    t.equal(executions, 1)
  })
}

t.test('safety: config flags present, features disabled by default', async (t) => {
  const { services } = await startApp(t)
  const { retry, effects } = services.config
  t.match(retry, { max_attempts: 3, cooldown_seconds: 60, exponential_backoff: true, max_cooldown_seconds: 3600 })
  t.match(retry.circuit_breaker, { enabled: true, failure_threshold: 10, time_window_minutes: 5 })
  t.match(retry.metrics, { enabled: true, time_window_minutes: 60 })
  const limits = { ttl_seconds: 259_200, memory_budget_mb: 100, check_eviction_policy: true }
  t.match(retry.redis, { namespace: 'idempotency', ...limits })
  t.match(retry, { budget: null, jitter: 'none', circuit_breaker: { auto_recovery_seconds: null } }, 'off')
  t.equal(effects.defaults.mode, 'enforce')
  const config = 'retry: {circuit_breaker: {enabled: false}, metrics: {enabled: false}}'
  const off = await startApp(t, { config })
  const job = newJob()
  await storm(() => off, job)
  t.match((await off.call('GET', breakerPath(job))).body, { state: 'closed', mode: 'disabled' })
})

t.test('safety: no hidden side effects: events are published and nobody need listen', async (t) => {
  const { services, call } = await startApp(t)
  services.events.subscribe(() => {
    throw new Error('a listener fails')
  })
  const job = newJob()
  await storm(() => ({ call }) as TestApp, job)
  t.match((await call('GET', breakerPath(job))).body, { state: 'open', version: 1 })
})

t.test('safety: no hidden side effects: asking stores nothing, and a refusal nothing about the effect', async (t) => {
  const redis = await startRedis(t)
  const { one, at, appOf } = await startTwo(t, redis)
  await one.call('POST', '/api/v1/failures/classify', { error: 'timeout' })
  const breakerUrls = ['/api/v1/breakers', breakerPath(newJob()), breakerPath(newJob(), '/history')]
  for (const url of [...breakerUrls, '/api/v1/jobs/metrics', '/api/v1/effects', '/api/v1/system', '/api/v1/audit']) {
    t.equal((await one.call('GET', url)).status, 200, url)
  }
  t.same(await storedKeys(redis.port), [])
  const job_type = newJob()
  await storm(appOf, job_type)
  const { status, body } = await at(0).claim({ ...newEffect(), job_type })
  t.equal(status, 409)
  t.same(await redisCli(redis.port, 'KEYS', `*${body.effect_id}*`), [])
})

const oldConfig = `
retry:
  max_attempts: 3
  cooldown_seconds: 60
  exponential_backoff: true
  max_cooldown_seconds: 3600
`
t.test('safety: backward compatibility: old config still works', async (t) => {
  for (const config of ['', oldConfig]) {
    const app = await startApp(t, { config })
    const { held } = await effectCalls(app).hold(newEffect(), { job_type: newJob() })
    const { body } = await effectCalls(app).fail({ ...held, error: { code: -1003, exchange: 'binance' } })
    t.match(body, { outcome: 'released', retry: { retry: true, wait_seconds: 60, attempts_left: 2 } })
  }
})

t.test('performance: about 1 KB for each operation, which goes by itself', async (t) => {
  const redis = await startRedis(t)
  const effects = effectCalls(await startApp(t, { redis }))
  const { held, effect_id } = await effects.hold(newEffect(), { job_type: newJob() })
  await effects.complete({ ...held, result: { order_id: 123456789, status: 'FILLED' } })
  const keys = (await redisCli(redis.port, 'KEYS', `*${effect_id}*`)) as string[]
  t.ok(keys.length > 0)
  let bytes = 0
  for (const key of keys) {
    bytes += Number(await redisCli(redis.port, 'MEMORY', 'USAGE', key))
    const ttlMs = Number(await redisCli(redis.port, 'PTTL', key))
    t.ok(ttlMs > 0 && ttlMs <= 259_200_000, key)
  }
  t.comment(`${bytes} bytes`)
  t.ok(bytes <= 1536, `${bytes} bytes`)
})
