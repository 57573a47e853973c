/** The breaker calls, and how effects meet breakers, through the whole service. */
import t from 'tap'
import { makeKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { randomNamespace } from '../helpers/redis-server.ts'

let jobs = 0
const newJob = () => `job.type-${jobs++}:${process.pid}`
const path = (job: string, call = '') => `/api/v1/breakers/${job}${call}`
const reason = 'a test says so'
const unavailable = { message: 'Service unavailable', exchange: 'binance', http_status: 503 }

async function open({ call }: TestApp, job: string) {
  let last = await call('POST', path(job, '/failure'), {})
  for (let i = 1; i < 10; i++) last = await call('POST', path(job, '/failure'), { error: unavailable })
  return last
}

t.test('checkBreaker', async (t) => {
  const app = await startApp(t)
  const { call } = app
  const job = newJob()
  const first = await call('POST', path(job, '/check'))
  t.equal(first.status, 200)
  t.match(first.body, { allowed: true, would_block: false, state: 'closed', reason: 'closed', probe_id: /.+/ })
  t.match((await call('POST', path(job, '/check'), { probe_id: 'p' })).body, { probe_id: 'p' })
  await open(app, job)
  const refused = await call('POST', path(job, '/check'), { probe_id: 'p' })
  t.equal(refused.status, 200, 'a check is answered, not refused')
  t.same(refused.body, { allowed: false, would_block: false, state: 'open', reason: 'open', probe_id: 'p' })
})

t.test('reportBreakerFailure, getBreaker and reportBreakerSuccess', async (t) => {
  const app = await startApp(t)
  const { call } = app
  const job = newJob()
  const opened = await open(app, job)
  t.equal(opened.status, 200)
  t.match(opened.body, { job_type: job, state: 'open', version: 1, failure_count: 10, requires_override: true })
  t.same((await call('GET', path(job))).body, opened.body)
  t.match((await call('POST', path(job, '/success'), {})).body, { state: 'open', version: 1 })
  await call('POST', path(job, '/override'), { reason })
  await call('POST', path(job, '/check'), { probe_id: 'p' })
  const closed = await call('POST', path(job, '/success'), { probe_id: 'p', owner: 'bot-1', event_id: 'e' })
  t.match(closed.body, { state: 'closed', version: 3, failure_count: 0, opened_at: null, reason: null })
  t.match(closed.body.last_override, { user: 'anonymous', reason, action: 'half_open', expires_at: null })
})

t.test('success and failure take the same body: an error means nothing for a success', async (t) => {
  const { call } = await startApp(t)
  const job = newJob()
  const body = { probe_id: 'p', owner: 'bot-1', event_id: 'e', error: { ...unavailable, retry_after_seconds: 60 } }
  for (const error of [body.error, 'too late', null, 7]) {
    const answer = await call('POST', path(job, '/success'), { ...body, error })
    t.equal(answer.status, 200)
    t.match(answer.body, { state: 'closed', failure_count: 0, hold_until: null })
  }
  t.equal((await call('POST', path(job, '/failure'), body)).status, 200)
})

t.test(
  'overrideBreaker: half_open is the default, a version that has moved on is 409, both are audited or not',
  async (t) => {
    const app = await startApp(t)
    const { call } = app
    const job = newJob()
    await open(app, job)
    const conflict = await call('POST', path(job, '/override'), { reason, version: 7 })
    t.equal(conflict.status, 409)
    t.match(conflict.body, { code: 'version-conflict', job_type: job, version: 1 })
    const done = await call('POST', path(job, '/override'), { reason, version: 1, user: 'alice' })
    t.match(done.body, { state: 'half_open', version: 2, last_override: { user: 'alice', on_behalf_of: null } })
    const forced = await call('POST', path(job, '/override'), { action: 'open', reason, expires_in_seconds: 60 })
    t.match(forced.body, { state: 'open', version: 3, reason: 'forced_open', requires_override: false })
    t.match((await call('POST', path(job, '/reset'), { reason })).body, { state: 'closed', version: 4 })
    const { body } = await call('GET', `/api/v1/audit?subject=breaker:${job}`)
    t.match(
      body.entries.map(({ action, after }: { action: string; after: object }) => ({ action, after })),
      [
        { action: 'breaker.reset', after: { state: 'closed', version: 4 } },
        { action: 'breaker.override', after: { state: 'open', version: 3 } },
        { action: 'breaker.override', after: { state: 'half_open', version: 2 } },
      ],
    )
    t.match((await call('GET', '/api/v1/audit/verify')).body, { ok: true })
  },
)

t.test('listBreakerHistory: newest first, in pages', async (t) => {
  const app = await startApp(t)
  const { call } = app
  const job = newJob()
  t.same((await call('GET', path(job, '/history'))).body, { history: [], next_cursor: null })
  await open(app, job)
  await call('POST', path(job, '/override'), { reason, user: 'alice' })
  const first = await call('GET', path(job, '/history?limit=1'))
  t.match(first.body.history, [
    { version: 2, from: 'open', to: 'half_open', cause: 'override', action: 'half_open', user: 'alice', reason },
  ])
  const second = await call('GET', path(job, `/history?limit=1&cursor=${first.body.next_cursor}`))
  const { at, ...transition } = second.body.history[0]
  t.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  const nobody = { action: null, user: null, on_behalf_of: null, reason: null }
  t.same(transition, { version: 1, from: 'closed', to: 'open', cause: 'failure_threshold', ...nobody })
  t.equal(second.body.next_cursor, null)
})

t.test('listBreakers: by state, in pages', async (t) => {
  const namespace = randomNamespace()
  const operator = makeKey('operator', namespace)
  const app = await startApp(t, { config: JSON.stringify({ auth: { keys: [operator.entry] } }) })
  const call = (method: string, url: string, body?: unknown) => app.call(method, url, body, operator.headers)
  const all = ['a', 'b', 'c']
  for (const job of all) await call('POST', path(job, '/override'), { action: 'open', reason })
  await call('POST', path('d', '/failure'), {})
  const first = await call('GET', '/api/v1/breakers?state=open&limit=2')
  const second = await call('GET', `/api/v1/breakers?state=open&limit=2&cursor=${first.body.next_cursor}`)
  const names = [first, second].flatMap(({ body }) => body.breakers.map((one: { job_type: string }) => one.job_type))
  t.same(names, all)
  t.equal((await call('GET', '/api/v1/breakers')).body.breakers.length, 4)
})

t.test('what is not valid names its place, and nothing is changed', async (t) => {
  const { call } = await startApp(t)
  const job = newJob()
  const cases: [method: string, url: string, body: unknown, pointer: string][] = [
    ['GET', path('9lives'), undefined, '{job_type}'],
    ['GET', path('prometheus'), undefined, '{job_type}'],
    ['GET', path('x'.repeat(65)), undefined, '{job_type}'],
    ['POST', path(job, '/check'), { probe: 'p' }, '/probe'],
    ['POST', path(job, '/failure'), { event_id: '' }, '/event_id'],
    ['POST', path(job, '/override'), {}, '/reason'],
    ['POST', path(job, '/override'), { reason: 'no' }, '/reason'],
    ['POST', path(job, '/override'), { reason, action: 'closed' }, '/action'],
    ['POST', path(job, '/override'), { reason, expires_in_seconds: 60 }, '/expires_in_seconds'],
    ['POST', path(job, '/override'), { reason, action: 'open', expires_in_seconds: 0 }, '/expires_in_seconds'],
    ['POST', path(job, '/override'), { reason, version: -1 }, '/version'],
    ['POST', path(job, '/reset'), {}, '/reason'],
    ['GET', '/api/v1/breakers?state=shut', undefined, '?state'],
    ['GET', '/api/v1/breakers?limit=501', undefined, '?limit'],
    ['GET', '/api/v1/breakers?cursor=x', undefined, '?cursor'],
    ['GET', path(job, '/history?cursor=-1'), undefined, '?cursor'],
  ]
  for (const [method, url, body, pointer] of cases) {
    const answer = await call(method, url, body)
    t.equal(answer.status, 400, `${method} ${url} ${JSON.stringify(body)}`)
    t.match(answer.body, { code: 'invalid-request', errors: [{ pointer }] })
  }
  t.match((await call('GET', path(job))).body, { state: 'closed', version: 0, failure_count: 0 })
})

t.test('an error of any shape is taken', async (t) => {
  const { call } = await startApp(t)
  for (const error of ['503', 17, null, [], { code: { deep: [1] } }, true]) {
    t.equal((await call('POST', path(newJob(), '/failure'), { error })).status, 200, JSON.stringify(error))
  }
})

t.test('roles, and namespaces that see nothing of each other', async (t) => {
  const [one, two] = [randomNamespace(), randomNamespace()]
  const keys = {
    reader: makeKey('reader', one),
    worker: makeKey('worker', one),
    operator: makeKey('operator', one),
    stranger: makeKey('operator', two, 'stranger'),
  }
  const entries = Object.values(keys).map(({ entry }) => entry)
  const app = await startApp(t, { config: JSON.stringify({ auth: { keys: entries } }) })
  const as = (who: keyof typeof keys, method: string, url: string, body?: unknown) =>
    app.call(method, url, body, keys[who].headers)
  const job = newJob()
  t.equal((await app.call('GET', path(job))).status, 401)
  for (const call of ['/check', '/success', '/failure']) {
    t.equal((await as('reader', 'POST', path(job, call), {})).status, 403, call)
    t.equal((await as('worker', 'POST', path(job, call), {})).status, 200, call)
  }
  for (const call of ['/override', '/reset']) {
    t.equal((await as('worker', 'POST', path(job, call), { reason })).status, 403, call)
  }
  const done = await as('operator', 'POST', path(job, '/override'), { action: 'open', reason, user: 'alice' })
  t.match(done.body.last_override, { user: keys.operator.entry.name, on_behalf_of: 'alice' })
  t.equal((await as('reader', 'GET', path(job))).body.state, 'open')
  t.equal((await as('stranger', 'GET', path(job))).body.state, 'closed')
  t.same((await as('stranger', 'GET', '/api/v1/breakers')).body.breakers, [])
})

t.test('a claim meets its breaker: refused without a trace, then the probe closes it', async (t) => {
  const app = await startApp(t)
  const { claim, complete, get } = effectCalls(app)
  const job_type = newJob()
  await open(app, job_type)
  const effect = newEffect()
  const refused = await claim({ ...effect, job_type })
  t.equal(refused.status, 409)
  t.match(refused.body, {
    ...{ code: 'circuit-open', outcome: 'circuit_open', job_type, breaker_state: 'open', reason: 'open' },
    ...{ requires_override: true, hold_until: null },
  })
  t.notOk('retry_after_seconds' in refused.body, 'no end is known')
  t.equal((await get(refused.body.effect_id)).status, 404)
  await app.call('POST', path(job_type, '/override'), { reason })
  const granted = await claim({ ...effect, job_type })
  t.equal(granted.status, 201)
  t.match((await claim({ ...newEffect(), job_type })).body, { code: 'circuit-open', reason: 'no_probe_left' })
  const { effect_id, fencing_token } = granted.body
  t.equal((await complete({ effect_id, fencing_token })).status, 200)
  t.match((await app.call('GET', path(job_type))).body, { state: 'closed', version: 3 })
  t.equal((await claim({ ...newEffect(), job_type })).status, 201)
})

t.test('ten failed effects open the breaker, each counted once however often its fail is sent', async (t) => {
  const app = await startApp(t)
  const effects = effectCalls(app)
  const job_type = newJob()
  for (let i = 0; i < 10; i++) {
    const { held } = await effects.hold(newEffect(), { job_type, owner: `bot-${i}` })
    for (let sent = 0; sent < 3; sent++) t.equal((await effects.fail({ ...held, error: unavailable })).status, 200)
    t.match((await app.call('GET', path(job_type))).body, { failure_count: i + 1 })
  }
  t.match((await app.call('GET', path(job_type))).body, { state: 'open', version: 1 })
  const opened = app.events.filter(({ event }) => event === 'breaker.opened')
  t.match(opened, [{ job_type, version: 1, failure_count: 10 }])
})

t.test('failures that say nothing about the venue leave the breaker alone', async (t) => {
  const app = await startApp(t)
  const effects = effectCalls(app)
  const job_type = newJob()
  const { held } = await effects.hold(newEffect(), { job_type })
  t.match(
    (
      await effects.fail({
        ...held,
        error: { code: -2010, exchange: 'binance', message: 'Account has insufficient balance.' },
      })
    ).body,
    {
      outcome: 'failed',
      classification: { counts_for_breaker: false },
    },
  )
  t.match((await app.call('GET', path(job_type))).body, { state: 'closed', failure_count: 0 })
})

t.test('a hold refuses claims of every process until its time, with Retry-After', async (t) => {
  const [one, two] = [await startApp(t), await startApp(t)]
  const job_type = newJob()
  const error = { code: -1003, exchange: 'binance', retry_after_seconds: 20 }
  await one.call('POST', path(job_type, '/failure'), { error })
  const refused = await effectCalls(two).claim({ ...newEffect(), job_type })
  t.match(refused.body, { code: 'circuit-open', breaker_state: 'closed', reason: 'hold', hold_until: /Z$/ })
  t.ok(Number(refused.headers['retry-after']) >= 19 && Number(refused.headers['retry-after']) <= 20)
  await one.moveClock(20)
  t.equal((await effectCalls(two).claim({ ...newEffect(), job_type })).status, 201)
})

t.test(
  'a hold makes a retry wait for its end and does not refuse it, also where this very failure asked for it',
  async (t) => {
    const app = await startApp(t)
    const job_type = newJob()
    const decide = async (error: object, members: object = {}) =>
      (await app.call('POST', '/api/v1/retries/decide', { job_type, attempt: 1, error, ...members })).body
    const limited = (retry_after_seconds: number) => ({ message: 'x', http_status: 429, retry_after_seconds })
    const retried = { retry: true, reason: 'retry', breaker: { state: 'closed' } }
    const reported = await decide(limited(2), { record_failure: true })
    t.match(reported, { ...retried, wait_seconds: 60 }, 'the cooldown is longer')
    const long = await decide(limited(900), { record_failure: true })
    const { hold_until } = (await app.call('GET', path(job_type))).body
    t.match(long, retried)
    t.ok(Date.parse(long.not_before) >= Date.parse(hold_until), `${long.not_before}, held until ${hold_until}`)
    t.ok(long.wait_seconds >= 900 && long.wait_seconds < 910, `${long.wait_seconds} s`)
    const other = await decide({ message: 'x', http_status: 429 })
    t.match(other, retried, 'a failure that asks for nothing')
    const afterMs = Date.parse(other.not_before) - Date.parse(hold_until)
    t.ok(afterMs >= 0 && afterMs <= 1, `${afterMs} ms after the hold, in whole milliseconds`)
    await app.call('POST', path(job_type, '/override'), { reason, action: 'open' })
    t.match((await app.call('GET', path(job_type))).body, { state: 'open', hold_until })
    const refused = { retry: false, reason: 'circuit_open', wait_seconds: null, not_before: null }
    t.match(await decide(limited(2)), refused, 'an open breaker refuses')
    await app.call('POST', path(job_type, '/override'), { reason })
    const halfOpen = await decide(limited(900), { record_failure: true })
    t.match(halfOpen, { retry: true, breaker: { state: 'half_open' } }, 'a half-open one that is held does not')
    const { blocked_by_reason } = (await app.call('GET', `/api/v1/jobs/metrics/${job_type}`)).body
    t.same(blocked_by_reason, { circuit_open: 1 })
  },
)

t.test('a failed effect whose breaker is held is told when to retry', async (t) => {
  const app = await startApp(t, { config: 'retry: {circuit_breaker: {failure_threshold: 3}}' })
  const { hold, fail } = effectCalls(app)
  const job_type = newJob()
  const running = await Promise.all(Array.from({ length: 3 }, () => hold(newEffect(), { job_type })))
  const report = async (at: number, error: object) => (await fail({ ...running[at]!.held, error })).body
  const first = await report(0, { code: -1003, exchange: 'binance', retry_after_seconds: 900 })
  const { hold_until } = (await app.call('GET', path(job_type))).body
  const retried = { retry: true, reason: 'retry', breaker: { state: 'closed' } }
  t.match(first, { outcome: 'released', retry: retried })
  t.ok(Date.parse(first.retry.not_before) >= Date.parse(hold_until), `${first.retry.not_before} of ${hold_until}`)
  t.ok(first.retry.wait_seconds >= 900, `${first.retry.wait_seconds} s`)
  const again = await report(0, { code: -1003, exchange: 'binance', retry_after_seconds: 900 })
  t.match(again, { replayed: true, retry: { ...retried, not_before: first.retry.not_before } })
  const second = await report(1, { code: -1003, exchange: 'binance' })
  t.match(second, { outcome: 'released', retry: retried }, 'one that asks for nothing, while others have')
  t.ok(Date.parse(second.retry.not_before) >= Date.parse(hold_until), second.retry.not_before)
  const last = await report(2, { code: -1003, exchange: 'binance' })
  const refused = { retry: false, reason: 'circuit_open', wait_seconds: null, not_before: null }
  t.match(last, { outcome: 'released', retry: { ...refused, breaker: { state: 'open' } } }, 'an open one refuses')
  await app.services.retryMetrics.flush()
  const { blocked_by_reason } = (await app.call('GET', `/api/v1/jobs/metrics/${job_type}`)).body
  t.same(blocked_by_reason, { circuit_open: 1 })
})

t.test('settings come per job type: shadow lets claims go, disabled counts nothing', async (t) => {
  const [shadow, disabled] = [newJob(), newJob()]
  const breaker = (circuit_breaker: object) => ({ circuit_breaker: { failure_threshold: 1, ...circuit_breaker } })
  const job_types = { [shadow]: breaker({ mode: 'shadow' }), [disabled]: breaker({ mode: 'disabled' }) }
  const app = await startApp(t, { config: JSON.stringify({ retry: { job_types } }) })
  const { claim } = effectCalls(app)
  for (const job_type of [shadow, disabled]) {
    await app.call('POST', path(job_type, '/failure'), {})
    t.equal((await claim({ ...newEffect(), job_type })).status, 201)
  }
  t.match((await app.call('GET', path(shadow))).body, { state: 'open', mode: 'shadow', failure_threshold: 1 })
  t.match((await app.call('GET', path(disabled))).body, { state: 'closed', mode: 'disabled', failure_count: 0 })
  t.match(app.events.at(-1), { event: 'breaker.would_block', job_type: shadow, state: 'open', reason: 'open' })
  const { text } = await app.call('GET', '/metrics')
  const value = (labels: string) =>
    text
      .split('\n')
      .find((line) => line.includes(`{${labels}}`))
      ?.split(' ')
      .at(-1)
  t.equal(value(`job_type="${shadow}",state="open"`), '1')
  t.equal(value(`job_type="${shadow}",state="closed"`), '0')
  t.equal(value(`job_type="${disabled}",state="closed"`), '1')
  t.equal(value(`job_type="${shadow}",to="open"`), '1')
  t.notOk(text.includes('job_type="order'), 'a job type that is not configured is other')
})
