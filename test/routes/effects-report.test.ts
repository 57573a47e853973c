/** What a holder says about its attempt: complete, fail, release, renew, on time, late and stale. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { type Answer, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'

const config = `
retry: { cooldown_seconds: 60, max_attempts: 3 }
effects:
  types:
    reclaimable: { on_lease_expiry: reclaim }
    once: { max_attempts: 1, allow_reclaim: true }
`

const told = ({ status, body }: Answer) => `${status} ${body.code ?? body.outcome}`

const late = ({ events }: TestApp) => events.filter(({ event }) => event === 'effect.late_completion')

t.test('complete stores the result for every later caller', async (t) => {
  const { hold, complete, claim, get } = effectCalls(await startApp(t))
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const done = await complete({ ...held, result: { order: 'A1' } })
  t.equal(told(done), '200 completed')
  t.match(done.body, { effect_id, attempt: 1, completed_at: /Z$/ })
  t.notOk('replayed' in done.body)
  t.same((await claim(effect)).body.result, { order: 'A1' })
  t.equal((await get(effect_id)).body.state, 'completed')
  const nothing = await hold(newEffect())
  await complete(nothing.held)
  const { body } = await get(nothing.effect_id)
  t.equal(body.state, 'completed')
  t.equal(body.result, null, 'an absent result is null')
})

t.test('a result comes back byte for byte', async (t) => {
  const large = await startApp(t, { config: 'effects: { max_result_bytes: 500000 }' })
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  const results = {
    spacing: '{ "b" :  [ 1.0 ,2e0 ],\t"a":"\\u00e9\\/é" }',
    duplicates: '{"a":1,"a":2}',
    'a number that no double keeps': '[1e400,9007199254740993,-0]',
    'a lone surrogate': '"\\ud800"',
    proto: '{"__proto__":{"x":1}}',
    'deep nesting': deep,
    null: 'null',
    'an empty string': '""',
  }
  for (const [name, result] of Object.entries(results)) {
    const { type, entity } = newEffect()
    const effect = `"type":"${type}","entity":"${entity}"`
    const grant = await large.call('POST', '/api/v1/effects/claim', `{${effect},"owner":"o"}`)
    const { fencing_token, effect_id } = grant.body
    const body = `{${effect},"fencing_token":${fencing_token},"result": ${result} }`
    const done = await large.call('POST', '/api/v1/effects/complete', body)
    t.equal(done.status, 200, name)
    const claimed = await large.call('POST', '/api/v1/effects/claim', `{${effect},"owner":"o"}`)
    const looked = await large.call('GET', `/api/v1/effects/${effect_id}`)
    const refused = await large.call('POST', '/api/v1/effects/fail', `{${effect},"fencing_token":1,"error":"x"}`)
    for (const { text } of [claimed, looked, refused]) t.ok(text.includes(`"result":${result}`), name)
    const again = await large.call('POST', '/api/v1/effects/complete', body)
    t.equal(again.body.replayed, true, `${name}: the same bytes are the same result`)
  }
})

t.test('complete again with the same token is the same answer, with another result a conflict', async (t) => {
  const app = await startApp(t)
  const { hold, complete, get } = effectCalls(app)
  const { held, effect_id } = await hold(newEffect())
  const first = await complete({ ...held, result: { a: 1, b: [1, 2] } })
  const spelled = `{"effect_id":"${effect_id}","fencing_token":${held.fencing_token},"result":{ "b":[1.0,2e0],"a":1 }}`
  const again = await complete(spelled)
  t.same(again.body, { ...first.body, replayed: true }, 'the same JCS value in other bytes')
  t.equal(again.headers['idempotent-replayed'], 'true')
  const conflict = await complete({ ...held, result: { a: 1, b: [2, 1] } })
  t.equal(told(conflict), '409 result-conflict')
  t.same(conflict.body.result, { a: 1, b: [1, 2] }, 'the stored one stays')
  t.equal(told(await complete(held)), '409 result-conflict', 'an absent result is null, which is another one')
  t.equal((await get(effect_id)).text.includes('"result":{"a":1,"b":[1,2]}'), true)
  t.equal(late(app).length, 0)
})

t.test('a result over max_result_bytes is refused and nothing changes', async (t) => {
  const { hold, complete, get, claim } = effectCalls(await startApp(t, { config: 'effects: { max_result_bytes: 10 }' }))
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const refused = await complete({ ...held, result: 'x'.repeat(9) })
  t.equal(told(refused), '413 payload-too-large')
  t.equal((await get(effect_id)).body.state, 'in_progress')
  t.equal(told(await complete({ ...held, result: 'x'.repeat(8) })), '200 completed', 'ten bytes with the quotes')
  t.equal(
    told(await claim({ ...newEffect(), result: 'é'.repeat(5) })),
    '413 payload-too-large',
    'bytes, not characters',
  )
})

t.test(
  'late truth is still truth: complete is accepted after the lease, from uncertain and from released',
  async (t) => {
    const app = await startApp(t, { config })
    const { hold, complete, claim, release, fail } = effectCalls(app)
    const silent = await hold(newEffect())
    await app.moveClock(31)
    t.equal(told(await complete(silent.held)), '200 completed', 'the lease is over, nobody has looked')
    const effect = newEffect()
    const uncertain = await hold(effect)
    await app.moveClock(31)
    t.equal(told(await claim(effect)), '409 effect-uncertain')
    t.equal(told(await complete(uncertain.held)), '200 completed', 'from uncertain')
    const released = await hold(newEffect())
    await release(released.held)
    t.equal(told(await complete(released.held)), '200 completed', 'from released')
    const retried = await hold(newEffect())
    await fail({ ...retried.held, ...passing })
    t.equal(told(await complete(retried.held)), '200 completed', 'after it was said to have failed')
    const reclaimable = await hold(newEffect('reclaimable'))
    await app.moveClock(31)
    t.equal((await app.services.sweep.once()) > 0, true)
    t.equal(told(await complete(reclaimable.held)), '200 completed', 'released by the sweep')
    t.equal(late(app).length, 0)
  },
)

t.test(
  'a stale complete changes nothing and is a suspected double, unless it confirms the stored result',
  async (t) => {
    const app = await startApp(t, { config })
    const { hold, complete, get, resolve } = effectCalls(app)
    const effect = newEffect('reclaimable')
    const first = await hold(effect)
    await app.moveClock(31)
    const second = await hold(effect)
    const stale = await complete({ ...first.held, result: 1 })
    t.equal(told(stale), '409 stale-token')
    t.match(stale.body, { state: 'in_progress', attempt: 2, effect_id: first.effect_id })
    t.notOk('fencing_token' in stale.body)
    const { fencing_token, effect_id } = first
    t.match(late(app), [{ effect_id, fencing_token, call: 'complete' }])
    await complete({ ...second.held, result: { ok: true } })
    t.equal(told(await complete({ ...first.held, result: { ok: false } })), '409 stale-token')
    t.equal(late(app).length, 2)
    t.equal(told(await complete({ ...first.held, result: { ok: true } })), '409 stale-token')
    t.equal(late(app).length, 2, 'the same result confirms it')
    t.same((await get(effect_id)).body.result, { ok: true })
    const looked = await hold(newEffect())
    await resolve(looked.effect_id, { resolution: 'executed', reason: 'it is there', result: 'R' })
    t.equal(told(await complete({ ...looked.held, result: 'R' })), '409 stale-token', 'a person has taken over')
    t.equal(late(app).length, 2)
    t.equal(told(await complete({ ...looked.held, result: 'other' })), '409 stale-token')
    t.equal(late(app).length, 3)
  },
)

t.test('complete of a failed effect is already settled, and a suspected double', async (t) => {
  const app = await startApp(t)
  const { hold, complete, fail, get } = effectCalls(app)
  const { held, effect_id } = await hold(newEffect())
  await fail({ ...held, ...rejected })
  const refused = await complete({ ...held, result: 1 })
  t.equal(told(refused), '409 already-settled')
  t.match(refused.body, { state: 'failed', error: { message: 'insufficient balance' } })
  t.match(late(app), [{ effect_id, call: 'complete' }])
  t.equal((await get(effect_id)).body.state, 'failed')
})

t.test('an effect that nobody has claimed is not found', async (t) => {
  const app = await startApp(t)
  const { complete, fail, release, renew, resolve, get, remove } = effectCalls(app)
  const held = { ...newEffect(), fencing_token: 1 }
  const id = `order_placement.${'ab'.repeat(32)}`
  const answers = [
    await complete(held),
    await fail({ ...held, error: 'x' }),
    await release(held),
    await renew(held),
    await resolve(id, { resolution: 'executed', reason: 'looked' }),
    await get(id),
    await remove(id),
  ]
  for (const answer of answers) t.equal(told(answer), '404 effect-not-found')
  t.equal(answers[5]?.body.effect_id, id)
  t.equal(late(app).length, 0)
})

t.test("a token later than Redis's clock was never granted", async (t) => {
  const { hold, complete, fail, release, renew } = effectCalls(await startApp(t))
  const { held } = await hold(newEffect())
  const future = { ...held, fencing_token: held.fencing_token + 3_600_000_000 }
  const unknown = { ...newEffect(), fencing_token: future.fencing_token }
  for (const report of [future, unknown]) {
    for (const answer of [
      await complete(report),
      await fail({ ...report, error: 'x' }),
      await release(report),
      await renew(report),
    ]) {
      t.equal(told(answer), '400 invalid-request')
      t.equal(answer.body.errors[0].pointer, '/fencing_token')
    }
  }
  t.equal(told(await complete(held)), '200 completed')
})

type Case = {
  policy: 'hold' | 'reclaim'
  execution: string
  retryable: boolean
  left: boolean
  outcome: string
  reason: string
}

/** Every branch of fail: policy × execution × retryable × attempts left. */
function failCases(): Case[] {
  const cases: Case[] = []
  for (const policy of ['hold', 'reclaim'] as const)
    for (const execution of ['yes', 'partial', 'unknown', 'no'])
      for (const retryable of [true, false])
        for (const left of [true, false]) {
          const reconcile =
            execution === 'yes' || execution === 'partial' || (execution === 'unknown' && policy === 'hold')
          const again = !reconcile && retryable && left
          const end = execution === 'no' ? 'failed' : 'uncertain'
          const why = retryable ? 'attempts_exhausted' : 'not_retryable'
          const doubt = reconcile || execution === 'unknown'
          const outcome = again ? 'released' : end
          cases.push({
            ...{ policy, execution, retryable, left, outcome },
            reason: again ? 'retry' : doubt ? 'reconcile_first' : why,
          })
        }
  return cases
}

t.test('fail: who knows what, and whether there is another attempt', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail, get } = effectCalls(app)
  for (const { policy, execution, retryable, left, outcome, reason } of failCases()) {
    const name = `${policy}, ${execution}, ${retryable ? 'retryable' : 'final'}, ${left ? 'attempts left' : 'none left'}`
    const effect = left ? newEffect(policy === 'hold' ? 'order_placement' : 'reclaimable') : newEffect('once')
    const { held, effect_id } = await hold(effect, left ? {} : { on_lease_expiry: policy })
    const answer = await fail({ ...held, error: 'some trouble', execution, retryable })
    t.equal(told(answer), `200 ${outcome}`, name)
    t.match(answer.body.retry, { retry: outcome === 'released', reason, breaker: { state: 'closed' } }, name)
    t.match(answer.body.classification, { failure_type: 'UNKNOWN' }, name)
    const { body } = await get(effect_id)
    t.equal(body.state, outcome, name)
    t.match(body.error, { message: 'some trouble' }, name)
    t.equal(answer.body.retry.not_before, body.not_before, name)
    t.equal(body.not_before === null, outcome !== 'released', name)
    const told_ = app.events.filter((event) => event.event === 'effect.uncertain' && event.effect_id === effect_id)
    t.equal(told_.length, outcome === 'uncertain' ? 1 : 0, name)
  }
})

t.test('fail classifies the error where the caller says nothing', async (t) => {
  const { hold, fail } = effectCalls(await startApp(t, { config }))
  const error = (code: number, message: string) => ({ exchange: 'binance', code, message })
  const cases: [unknown, string, string][] = [
    [error(-1003, 'Too many requests.'), 'RATE_LIMIT', 'released'],
    [error(-1007, 'Timeout waiting for response from backend server.'), 'TIMEOUT', 'uncertain'],
    [error(-1013, 'Filter failure: LOT_SIZE'), 'VALIDATION_ERROR', 'failed'],
    [error(-2010, 'Duplicate order sent.'), 'DUPLICATE', 'uncertain'],
    [error(-2010, 'Account has insufficient balance for requested action.'), 'INSUFFICIENT_BALANCE', 'failed'],
    ['something else', 'UNKNOWN', 'uncertain'],
    [12, 'UNKNOWN', 'uncertain'],
    [null, 'UNKNOWN', 'uncertain'],
  ]
  for (const [sent, failure_type, outcome] of cases) {
    const { held } = await hold(newEffect())
    const { status, body } = await fail({ ...held, error: sent })
    t.equal(status, 200, JSON.stringify(sent))
    t.equal(body.classification.failure_type, failure_type, JSON.stringify(sent))
    t.equal(body.outcome, outcome, JSON.stringify(sent))
  }
})

t.test('advice: the wait doubles with each attempt, and a claim before it is granted all the same', async (t) => {
  const { hold, fail } = effectCalls(await startApp(t, { config }))
  const effect = newEffect()
  const first = await hold(effect)
  const { body } = await fail({ ...first.held, ...passing })
  t.match(body.retry, { wait_seconds: 60, attempts_left: 2 })
  const second = await hold(effect)
  t.equal(second.grant.attempt, 2)
  const after = await fail({ ...second.held, ...passing })
  t.match(after.body.retry, { wait_seconds: 120, attempts_left: 1 })
  const third = await hold(effect)
  const last = await fail({ ...third.held, ...passing })
  t.match(last.body, { outcome: 'failed', retry: { retry: false, reason: 'attempts_exhausted', attempts_left: 0 } })
})

t.test('an earlier attempt in doubt keeps an effect from being failed by a later one', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail } = effectCalls(app)
  const effect = newEffect('reclaimable')
  const first = await hold(effect)
  t.equal(told(await fail({ ...first.held, error: 'timeout', execution: 'unknown', retryable: true })), '200 released')
  const second = await hold(effect)
  t.match(
    app.events.filter(({ event }) => event === 'effect.reclaimed'),
    [{ attempt: 2 }],
  )
  const { body } = await fail({ ...second.held, ...rejected })
  t.match(body, { outcome: 'uncertain', retry: { retry: false, reason: 'reconcile_first', wait_seconds: null } })
  const silent = newEffect('reclaimable')
  await hold(silent)
  await app.moveClock(31)
  const next = await hold(silent)
  t.equal(told(await fail({ ...next.held, ...rejected })), '200 uncertain', 'a silent holder leaves doubt too')
})

t.test('fail is accepted after the lease and from uncertain, and its word about its own attempt counts', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail, claim } = effectCalls(app)
  const silent = await hold(newEffect())
  await app.moveClock(31)
  t.equal(told(await fail({ ...silent.held, ...passing })), '200 released', 'the lease is over, nobody has looked')
  const effect = newEffect()
  const uncertain = await hold(effect)
  await app.moveClock(31)
  t.equal(told(await claim(effect)), '409 effect-uncertain')
  t.equal(told(await fail({ ...uncertain.held, ...rejected })), '200 failed', 'from uncertain')
  const swept = await hold(newEffect('reclaimable'))
  await app.moveClock(31)
  await app.services.sweep.once()
  t.equal(told(await fail({ ...swept.held, ...passing })), '200 released', 'released by the sweep')
})

t.test('fail again with the same words gives the same answer', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail } = effectCalls(app)
  for (const report of [passing, rejected, { error: 'x', execution: 'unknown' }]) {
    const { held } = await hold(newEffect())
    const first = await fail({ ...held, ...report })
    const again = await fail({ ...held, ...report })
    t.same(again.body, { ...first.body, replayed: true })
    t.equal(again.headers['idempotent-replayed'], 'true')
    const events = app.events.filter((event) => 'effect_id' in event && event.effect_id === held.effect_id)
    t.equal(events.length, first.body.outcome === 'uncertain' ? 1 : 0, 'told once')
  }
  const { held } = await hold(newEffect())
  await fail({ ...held, ...rejected })
  t.equal(told(await fail({ ...held, ...passing })), '409 already-settled', 'other words do not')
})

t.test('a stale fail is a suspected double unless it says that nothing was executed', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail } = effectCalls(app)
  const effect = newEffect('reclaimable')
  const first = await hold(effect)
  await app.moveClock(31)
  await hold(effect)
  t.equal(told(await fail({ ...first.held, ...rejected })), '409 stale-token')
  t.equal(late(app).length, 0)
  t.equal(told(await fail({ ...first.held, error: 'x', execution: 'unknown' })), '409 stale-token')
  t.match(late(app), [{ call: 'fail', fencing_token: first.fencing_token }])
  const balance = {
    exchange: 'binance',
    code: -2010,
    message: 'Account has insufficient balance for requested action.',
  }
  t.equal(told(await fail({ ...first.held, error: balance })), '409 stale-token')
  t.equal(late(app).length, 1, 'the classification says no')
})

t.test('fail of a completed effect is already settled', async (t) => {
  const { hold, fail, complete } = effectCalls(await startApp(t))
  const { held } = await hold(newEffect())
  await complete({ ...held, result: 5 })
  const refused = await fail({ ...held, ...rejected })
  t.equal(told(refused), '409 already-settled')
  t.match(refused.body, { state: 'completed', result: 5 })
})

t.test('an error keeps its own members, its message is cut, and no nesting breaks it', async (t) => {
  const { hold, fail, get } = effectCalls(await startApp(t))
  const own = await hold(newEffect())
  const error = { message: 'm'.repeat(2500), code: -1, name: 'OrderError', order: { a: [1, null] } }
  await fail({ ...own.held, error, execution: 'no', retryable: false })
  const kept = (await get(own.effect_id)).body.error
  t.same(kept, { ...error, message: 'm'.repeat(2000) })
  const deep = await hold(newEffect())
  const nested = `{"message":"deep","more":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
  const body = `{"effect_id":"${deep.effect_id}","fencing_token":${deep.fencing_token},"error":${nested}}`
  t.equal((await fail(body)).status, 200)
  t.match((await get(deep.effect_id)).body.error, { message: 'deep' })
  const odd = [
    '{"message":{"a":1},"code":1.5}',
    '{"message":"\\ud800","http_status":"x"}',
    '["a"]',
    '1e400',
    '"x"',
    '{}',
    'true',
    '{"a":1,"a":2,"retry_after_seconds":-1}',
    '{"__proto__":{"message":"x"}}',
  ]
  for (const text of odd) {
    const { held, effect_id } = await hold(newEffect())
    const answer = await fail(`{"effect_id":"${effect_id}","fencing_token":${held.fencing_token},"error":${text}}`)
    t.equal(answer.status, 200, text)
    t.type((await get(effect_id)).body.error.message, 'string', text)
  }
})

t.test('release gives the claim back unused', async (t) => {
  const app = await startApp(t)
  const { hold, release, get, complete } = effectCalls(app)
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const first = await release({ ...held, reason: 'shutting down' })
  t.same(first.body, { outcome: 'released', effect_id, attempt: 0 })
  const again = await release({ ...held, reason: 'shutting down' })
  t.same(again.body, { ...first.body, replayed: true })
  t.equal(again.headers['idempotent-replayed'], 'true')
  const { body } = await get(effect_id)
  t.equal(body.state, 'released')
  t.match(body.history, [{ step: 'released', by: 'bot-1', detail: 'shutting down' }])
  const next = await hold(effect)
  t.equal(next.grant.attempt, 1)
  t.equal(told(await release(held)), '409 stale-token')
  await complete(next.held)
  t.equal(told(await release(next.held)), '409 already-settled')
})

t.test('after the lease ran out release and renew say so, even if nobody took over', async (t) => {
  const app = await startApp(t, { config })
  const { hold, release, renew, claim } = effectCalls(app)
  for (const type of ['order_placement', 'reclaimable']) {
    const effect = newEffect(type)
    const { held } = await hold(effect)
    await app.moveClock(31)
    t.equal(told(await renew(held)), '409 lease-expired')
    t.equal(told(await release(held)), '409 lease-expired')
    await app.services.sweep.once()
    t.equal(told(await renew(held)), '409 lease-expired', 'after the sweep')
    t.equal(told(await release(held)), '409 lease-expired', 'after the sweep')
    await claim(effect)
    const expected = type === 'reclaimable' ? '409 stale-token' : '409 lease-expired'
    t.equal(told(await renew(held)), expected, 'after another claim')
  }
})

t.test('renew extends the lease and never shortens it', async (t) => {
  const app = await startApp(t)
  const { hold, renew, claim, complete } = effectCalls(app)
  const effect = newEffect()
  const { held, grant } = await hold(effect, { lease_seconds: 20 })
  const short = await renew({ ...held, lease_seconds: 1 })
  t.equal(told(short), '200 renewed')
  t.equal(short.body.lease_expires_at, grant.lease_expires_at, 'not shortened')
  await app.moveClock(10)
  const { body } = await renew(held)
  const gained = Date.parse(body.lease_expires_at) - Date.parse(grant.lease_expires_at)
  t.ok(gained >= 10_000 && gained < 13_000, 'as long as claimed, from now')
  t.ok(body.lease_remaining_seconds > 18 && body.lease_remaining_seconds <= 20)
  await app.moveClock(15)
  t.equal(told(await claim({ ...effect, owner: 'bot-2' })), '409 effect-in-progress', 'beyond the first end')
  const long = await renew({ ...held, lease_seconds: 3600 })
  t.ok(long.body.lease_remaining_seconds > 3590)
  await complete(held)
  t.equal(told(await renew(held)), '409 already-settled')
})

t.test('metadata stays until a later claim sends its own', async (t) => {
  const { hold, release, get } = effectCalls(await startApp(t))
  const effect = newEffect()
  const one = await hold(effect, { metadata: { k: '1' }, claim_id: randomUUID() })
  await release(one.held)
  const two = await hold(effect)
  t.same((await get(two.effect_id)).body.metadata, { k: '1' })
  await release(two.held)
  await hold(effect, { metadata: { k: '2' } })
  t.same((await get(two.effect_id)).body.metadata, { k: '2' })
})
