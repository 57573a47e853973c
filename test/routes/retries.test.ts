import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import t from 'tap'
import type { Answer } from '../helpers/app.ts'
import { randomNamespace } from '../helpers/redis-server.ts'
import { type RetryApp, startRetryApp } from '../helpers/retries.ts'
import { stringifyWithRaw } from '../../src/json.ts'

const rateLimit = { message: 'Too many requests', code: -1003, exchange: 'binance' }
const timeout = { message: 'Timeout waiting for response from backend server', code: -1007, exchange: 'binance' }
const duplicate = { message: 'Duplicate order sent.', code: -2010, exchange: 'binance' }
const halfDone = { message: 'Order cancel-replace partially failed.', code: -2021, exchange: 'binance' }
const noFunds = { message: 'Account has insufficient balance for requested action.', code: -2010, exchange: 'binance' }
const effectId = (type: string) => `${type}.${'ab'.repeat(32)}`

const decider =
  ({ call }: RetryApp) =>
  (members: object) =>
    call('POST', '/retries/decide', { job_type: 'order', attempt: 1, error: rateLimit, ...members })
const said = ({ body }: Answer): [boolean, string] => [(body as Decision).retry, (body as Decision).reason]
const metricsOf = async ({ call }: RetryApp, path = '') => (await call('GET', `/jobs/metrics${path}`)).body as Metrics

interface Decision {
  retry: boolean
  reason: string
  wait_seconds: number | null
  not_before: string | null
  attempts_left: number
  breaker: { state: string }
}
interface Metrics {
  totals: object
  avg_attempts: number
  blocked_by_reason: Record<string, number>
  job_types: Record<string, Metrics>
}

t.test('a failure that may pass is retried after the cooldown, doubled each time and capped', async (t) => {
  const app = await startRetryApp(t, { config: 'retry: {max_attempts: 10, max_cooldown_seconds: 300}' })
  const decide = decider(app)
  const before = Date.now()
  const first = await decide({})
  t.equal(first.status, 200)
  const { classification, not_before, ...decision } = first.body as Record<string, unknown>
  t.same(decision, { retry: true, reason: 'retry', wait_seconds: 60, attempts_left: 9, breaker: { state: 'closed' } })
  t.match(classification, { failure_type: 'RATE_LIMIT', execution: 'no', rule: 'binance.spot.-1003' })
  const waitMs = Date.parse(String(not_before)) - before
  t.ok(waitMs >= 59_000 && waitMs <= 65_000, `${waitMs} ms from now`)
  const waits = [2, 3, 4, 9].map(async (attempt) => ((await decide({ attempt })).body as Decision).wait_seconds)
  t.same(await Promise.all(waits), [120, 240, 300, 300])
  const asked = { ...rateLimit, retry_after_seconds: 900 }
  t.equal(((await decide({ error: asked })).body as Decision).wait_seconds, 900, 'what the exchange asks for is longer')
})

t.test('the reasons come in the order of the contract', async (t) => {
  const config = 'retry: {budget: {ratio: 0, min_per_second: 0, window_seconds: 1}}'
  const app = await startRetryApp(t, { config })
  const decide = decider(app)
  app.around.breaker = { state: 'open', refuses: true, holdUntilMs: 0 }
  const worst = { attempt: 3, effect_id: effectId('order_placement') }
  t.same(said(await decide({ ...worst, error: duplicate })), [false, 'reconcile_first'], 'it is there already')
  t.same(said(await decide({ ...worst, error: halfDone })), [false, 'reconcile_first'], 'one half of it is')
  t.same(said(await decide({ ...worst, error: timeout })), [false, 'reconcile_first'], 'nobody knows')
  t.same(said(await decide({ ...worst, error: noFunds })), [false, 'not_retryable'])
  t.same(said(await decide(worst)), [false, 'attempts_exhausted'])
  t.same(said(await decide({ ...worst, attempt: 2 })), [false, 'circuit_open'])
  app.around.breaker = { state: 'half_open', refuses: false, holdUntilMs: 0 }
  const spent = await decide({ ...worst, attempt: 2 })
  t.same(said(spent), [false, 'budget_exhausted'])
  t.match(spent.body, { wait_seconds: null, not_before: null, attempts_left: 1, breaker: { state: 'half_open' } })
  const reasons = { reconcile_first: 3, not_retryable: 1, attempts_exhausted: 1, circuit_open: 1, budget_exhausted: 1 }
  t.same((await metricsOf(app, '/order')).blocked_by_reason, reasons)
})

t.test('doubt holds back only an effect whose policy is hold', async (t) => {
  const decide = decider(await startRetryApp(t))
  t.same(said(await decide({ error: timeout })), [true, 'retry'])
  t.same(said(await decide({ error: timeout, effect_id: effectId('signal_consumption') })), [true, 'retry'])
  t.same(said(await decide({ error: duplicate, effect_id: effectId('signal_consumption') })), [
    false,
    'reconcile_first',
  ])
  t.same(said(await decide({ error: duplicate })), [false, 'reconcile_first'])
})

t.test('attempts are those of the effect type, else of the job type, else of all', async (t) => {
  const config = `
effects: {types: {ledger_write: {max_attempts: 7}}}
retry: {job_types: {patient: {max_attempts: 5, cooldown_seconds: 1, exponential_backoff: false}}}`
  const decide = decider(await startRetryApp(t, { config }))
  const left = async (members: object) => ((await decide(members)).body as Decision).attempts_left
  t.equal(await left({}), 2)
  t.equal(await left({ job_type: 'patient' }), 4)
  t.equal(await left({ job_type: 'patient', effect_id: effectId('ledger_write') }), 6)
  t.equal(((await decide({ job_type: 'patient', attempt: 4 })).body as Decision).wait_seconds, 1)
})

t.test('a decision is recorded, and one with the same event id counts and is written once', async (t) => {
  const app = await startRetryApp(t)
  const decide = decider(app)
  const sent = { event_id: 'job 42', owner: 'bot-1', attempt: 2, effect_id: effectId('order_placement') }
  const answers = [await decide(sent), await decide(sent), await decide(sent)]
  t.same(answers.map(said), Array(3).fill([true, 'retry']))
  await decide({ attempt: 3 })
  const { totals, avg_attempts } = await metricsOf(app, '/order')
  t.same(totals, { attempts: 1, successes: 0, failures: 0, blocked: 1 })
  t.equal(avg_attempts, 3, 'the attempt to come')
  t.equal(app.around.decided.length, 2)
  t.match(app.around.decided[0], {
    ...sent,
    ...{ namespace: app.namespace, job_type: 'order', retry: true, reason: 'retry', wait_seconds: 120 },
    ...{ failure_type: 'RATE_LIMIT', rule: 'binance.spot.-1003', breaker_state: 'closed', at: /^\d{4}-.*Z$/ },
  })
  t.match(app.around.decided[1], { owner: null, event_id: null, effect_id: null, retry: false, wait_seconds: null })
})

t.test('a repeated decision tells the first reason although the breaker has opened since', async (t) => {
  const app = await startRetryApp(t)
  const decide = decider(app)
  await decide({ event_id: 'same' })
  app.around.breaker = { state: 'open', refuses: true, holdUntilMs: 0 }
  const again = await decide({ event_id: 'same' })
  t.same(said(again), [true, 'retry'])
  t.match(again.body, { wait_seconds: 60, breaker: { state: 'open' } })
})

t.test('a repeated decision waits for a hold that came since', async (t) => {
  const app = await startRetryApp(t)
  const decide = decider(app)
  await decide({ event_id: 'same' })
  const holdUntilMs = Date.now() + 900_000
  app.around.breaker = { state: 'closed', refuses: false, holdUntilMs }
  const again = (await decide({ event_id: 'same' })).body as Decision
  t.match(again, { retry: true, reason: 'retry' })
  const afterMs = Date.parse(again.not_before ?? '') - holdUntilMs
  t.ok(afterMs >= 0 && afterMs <= 1, `${afterMs} ms after the hold, in whole milliseconds`)
})

t.test('the failure is reported to the breaker only if that is asked for', async (t) => {
  const app = await startRetryApp(t)
  const decide = decider(app)
  await decide({})
  await decide({ record_failure: false })
  t.same(app.around.reports, [])
  await decide({ record_failure: true, owner: 'bot-1', event_id: 'e' })
  t.match(app.around.reports, [
    {
      ...{ namespace: app.namespace, jobType: 'order', owner: 'bot-1', event_id: 'e', error: rateLimit },
      classification: { counts_for_breaker: true },
    },
  ])
})

t.test('callers with a loop of their own record what happens, and each event once', async (t) => {
  const app = await startRetryApp(t)
  const record = (what: string, body?: object) => app.call('POST', `/retries/order/${what}`, body)
  const answers = [
    await record('attempt', { attempt_number: 2, event_id: 'a' }),
    await record('attempt', { attempt_number: 2, event_id: 'a' }),
    await record('attempt', { attempt_number: 3 }),
    await record('success', { event_id: 'a' }),
    await record('success'),
    await record('success', {}),
    await record('failure'),
    await record('blocked', { reason: 'circuit_open' }),
    await record('blocked', { reason: 'it is "Sunday"', event_id: 'b' }),
    await record('blocked', { reason: 'it is "Sunday"', event_id: 'b' }),
  ]
  t.same(
    answers.map(({ status, text }) => [status, text]),
    Array(10).fill([204, '']),
  )
  const wanted = {
    time_window_minutes: 60,
    retry_rate_per_minute: 2 / 60,
    retry_success_rate: 75,
    retry_failure_rate: 25,
    retry_block_rate: 50,
    avg_attempts: 2.5,
    totals: { attempts: 2, successes: 3, failures: 1, blocked: 2 },
    blocked_by_reason: { circuit_open: 1, 'it is "Sunday"': 1 },
  }
  t.same(await metricsOf(app, '/order'), wanted)
  t.same(await metricsOf(app), { ...wanted, job_types: { order: wanted } })
  const narrow = await metricsOf(app, '?window_minutes=1440')
  t.match(narrow, { time_window_minutes: 1440, retry_rate_per_minute: 2 / 1440 })
})

t.test('where nothing happened every figure is 0', async (t) => {
  const app = await startRetryApp(t, { config: 'retry: {metrics: {time_window_minutes: 5}}' })
  const rates = ['rate_per_minute', 'success_rate', 'failure_rate', 'block_rate'].map((name) => [`retry_${name}`, 0])
  const empty = {
    time_window_minutes: 5,
    ...(Object.fromEntries(rates) as Record<string, number>),
    avg_attempts: 0,
    totals: { attempts: 0, successes: 0, failures: 0, blocked: 0 },
    blocked_by_reason: {},
  }
  t.same(await metricsOf(app, '/never_seen'), empty)
  t.same(await metricsOf(app), { ...empty, job_types: {} })
})

t.test('a reason that is the name of a part of every object is a reason like any other', async (t) => {
  const app = await startRetryApp(t)
  for (const reason of ['__proto__', 'constructor', '__proto__']) {
    await app.call('POST', '/retries/order/blocked', { reason })
  }
  const { blocked_by_reason } = await metricsOf(app, '/order')
  t.same(Object.entries(blocked_by_reason).toSorted(), [['__proto__', 2], ['constructor', 1]]) // prettier-ignore
})

t.test('every replica answers the same, and namespaces see nothing of each other', async (t) => {
  const one = await startRetryApp(t)
  const two = await startRetryApp(t, { namespace: one.namespace })
  const stranger = await startRetryApp(t)
  await one.call('POST', '/retries/order/success')
  await two.call('POST', '/retries/order/success')
  t.match(await metricsOf(one), { totals: { successes: 2 } })
  t.same(await metricsOf(two), await metricsOf(one))
  t.same((await metricsOf(stranger)).job_types, {})
})

t.test('Prometheus reads counters for all time and gauges over the window, with names as they are', async (t) => {
  const app = await startRetryApp(t)
  await app.call('POST', '/retries/order:a.b-c/attempt', { attempt_number: 4 })
  await app.call('POST', '/retries/order:a.b-c/failure')
  await app.call('POST', '/retries/order:a.b-c/blocked', { reason: 'a "b"\\\n' })
  const { status, headers, text } = await app.callAs('reader', 'GET', '/jobs/metrics/prometheus')
  t.equal(status, 200)
  t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/)
  const job = 'job_type="order:a.b-c"'
  for (const line of [
    '# TYPE retry_rate_per_minute gauge',
    `retry_rate_per_minute{${job}} ${1 / 60}`,
    `retry_success_rate{${job}} 0`,
    `retry_failure_rate{${job}} 100`,
    `retry_block_rate{${job}} 50`,
    `retry_avg_attempts{${job}} 4`,
    '# TYPE retry_attempts_total counter',
    `retry_attempts_total{${job}} 1`,
    `retry_successes_total{${job}} 0`,
    `retry_failures_total{${job}} 1`,
    '# TYPE retry_blocked_total counter',
    `retry_blocked_total{${job},reason="a \\"b\\"\\\\\\n"} 1`,
  ]) {
    t.ok(text.split('\n').includes(line), line)
  }
  const promtool = ['/usr/bin/promtool', '/usr/local/bin/promtool'].find((file) => existsSync(file))
  if (promtool)
    t.doesNotThrow(() => execFileSync(promtool, ['check', 'metrics'], { input: text }), 'promtool accepts it')
})

t.test('a reset forgets every count, is audited, and lets nothing count twice', async (t) => {
  const app = await startRetryApp(t)
  const { call, callAs } = app
  for (const job of ['a', 'b', 'c']) await call('POST', `/retries/${job}/success`, { event_id: 'once' })
  t.equal((await callAs('worker', 'DELETE', '/jobs/metrics?reason=a%20test')).status, 403)
  t.match((await call('DELETE', '/jobs/metrics')).body, { code: 'invalid-request', errors: [{ pointer: '?reason' }] })
  t.match(await metricsOf(app), { totals: { successes: 3 } }, 'refused: nothing is forgotten')
  const { status, text } = await call('DELETE', '/jobs/metrics?reason=after%20the%20test&user=alice')
  t.same([status, text], [204, ''])
  t.same((await metricsOf(app)).job_types, {})
  await call('POST', '/retries/a/success', { event_id: 'once' })
  await call('POST', '/retries/b/success')
  t.match(await metricsOf(app), { totals: { successes: 1 } })
  const { entries } = await app.audit.list(app.namespace, { limit: 10 })
  t.equal(entries.length, 1)
  t.match(entries[0], {
    action: 'jobs.metrics.reset',
    user: 'operator',
    on_behalf_of: 'alice',
    reason: 'after the test',
  })
  t.match(stringifyWithRaw(app.around.audited, JSON.stringify), /"job_types":3/)
  t.match(await app.audit.verify(app.namespace), { ok: true })
})

t.test('a reset that races recorders is one step: its count and what comes after are all there is', async (t) => {
  const app = await startRetryApp(t)
  const storm = Array.from({ length: 60 }, (_, job) => app.call('POST', `/retries/job_${job}/success`))
  const reset = app.call('DELETE', '/jobs/metrics?reason=a%20race')
  const answers = await Promise.all([...storm, reset])
  t.ok(answers.every(({ status }) => status === 204 || status === 503))
  await app.call('DELETE', '/jobs/metrics?reason=the%20end')
  t.same((await metricsOf(app)).job_types, {})
})

t.test('what is not a valid call is refused, names the place and records nothing', async (t) => {
  const app = await startRetryApp(t)
  const places: [string, string, object | undefined, string][] = [
    ['POST', '/retries/decide', { job_type: 'order', attempt: 1 }, '/error'],
    ['POST', '/retries/decide', { job_type: 'order', attempt: 0, error: 'x' }, '/attempt'],
    ['POST', '/retries/decide', { job_type: 'prometheus', attempt: 1, error: 'x' }, '/job_type'],
    ['POST', '/retries/decide', { job_type: 'order', attempt: 1, error: 'x', effect_id: 'order' }, '/effect_id'],
    ['POST', '/retries/decide', { job_type: 'order', attempt: 1, error: 'x', tries: 2 }, '/tries'],
    ['POST', '/retries/decide', { job_type: 'order', attempt: 1, error: 'x', event_id: '' }, '/event_id'],
    ['POST', '/retries/order/attempt', {}, '/attempt_number'],
    ['POST', '/retries/order/attempt', { attempt_number: 10_001 }, '/attempt_number'],
    ['POST', '/retries/order/attempt', { attempt_number: 1.5 }, '/attempt_number'],
    ['POST', '/retries/order/blocked', undefined, '/reason'],
    ['POST', '/retries/order/blocked', { reason: 'x'.repeat(65) }, '/reason'],
    ['POST', '/retries/order/success', { reason: 'x' }, '/reason'],
    ['POST', '/retries/1order/success', {}, '{job_type}'],
    ['GET', '/jobs/metrics?window_minutes=0', undefined, '?window_minutes'],
    ['GET', '/jobs/metrics?window_minutes=1441', undefined, '?window_minutes'],
    ['GET', '/jobs/metrics/order?window=60', undefined, '?window'],
    ['GET', '/jobs/metrics/_other', undefined, '{job_type}'],
  ]
  for (const [method, path, body, pointer] of places) {
    const { status, body: problem }: { status: number; body: unknown } = await app.call(method, path, body)
    t.match(
      [status, problem],
      [400, { code: 'invalid-request', errors: [{ pointer }] }],
      `${method} ${path} ${pointer}`,
    )
  }
  t.same((await metricsOf(app)).job_types, {})
  t.same(app.around.decided, [])
})

t.test('readers read, workers decide and record', async (t) => {
  const { callAs } = await startRetryApp(t)
  t.equal((await callAs('reader', 'GET', '/jobs/metrics')).status, 200)
  t.equal((await callAs('reader', 'GET', '/jobs/metrics/order')).status, 200)
  t.equal((await callAs('reader', 'POST', '/retries/order/success')).status, 403)
  t.equal((await callAs('reader', 'POST', '/retries/decide', {})).status, 403, 'before the body is looked at')
  t.equal((await callAs('worker', 'POST', '/retries/order/success')).status, 204)
})

t.test('without Redis a decision, a record and the metrics are refused with a reason', async (t) => {
  const { call } = await startRetryApp(t, { namespace: randomNamespace(), redisUrl: 'redis://127.0.0.1:1' })
  const calls = [
    call('POST', '/retries/decide', { job_type: 'order', attempt: 1, error: 'x' }),
    call('POST', '/retries/order/success'),
    call('GET', '/jobs/metrics'),
    call('GET', '/jobs/metrics/prometheus'),
    call('DELETE', '/jobs/metrics?reason=a%20test'),
  ]
  for (const { status, body } of await Promise.all(calls)) {
    t.match([status, body], [503, { code: 'store-unavailable', reason: 'unavailable' }])
  }
})
