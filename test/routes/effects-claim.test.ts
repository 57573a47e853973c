/** The claim: every row of its table, in its order, and what a grant tells. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { redisCli } from '../helpers/redis-server.ts'
import { type Answer, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'

const config = `
effects:
  types:
    reclaimable: { on_lease_expiry: reclaim }
    either: { allow_reclaim: true }
    twice: { max_attempts: 2 }
    quick: { lease_seconds: 0.5, retention_seconds: 7 }
    watched: { mode: shadow }
`

/** The status and the slug, or the outcome, of an answer: `409 effect-in-progress`. */
const told = ({ status, body }: Answer) => `${status} ${body.code ?? body.outcome}`

t.test('a new effect is granted with everything that its holder needs', async (t) => {
  const { claim } = effectCalls(await startApp(t))
  const metadata = { strategy: 'grid', 'a b': '' }
  const effect = newEffect()
  const answer = await claim({ ...effect, lease_seconds: 12.5, metadata })
  t.equal(answer.status, 201)
  const { body } = answer
  t.equal(body.outcome, 'claimed')
  t.match(body.effect_id, /^order_placement\.[0-9a-f]{64}$/)
  t.ok(Number.isSafeInteger(body.fencing_token) && body.fencing_token > 1.7e15, 'the token is a time in microseconds')
  t.equal(body.attempt, 1)
  t.match(body.reference, /^[a-z][a-z0-9]{1,31}$/)
  t.match(body.claimed_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.equal(Date.parse(body.lease_expires_at) - Date.parse(body.claimed_at), 12_500)
  t.equal(body.lease_seconds, 12.5)
  t.ok(body.lease_remaining_seconds > 11 && body.lease_remaining_seconds <= 12.5)
  t.equal(body.durability, 'primary')
  t.same(body.metadata, metadata)
  t.notOk('replayed' in body)
  t.notOk('idempotent-replayed' in answer.headers)
  t.equal(Math.floor(body.fencing_token / 1000), Date.parse(body.claimed_at), 'the token tells when it was granted')
})

t.test('the defaults of a claim are those of its effect type', async (t) => {
  const { claim, get } = effectCalls(await startApp(t, { config }))
  const usual = await claim(newEffect())
  t.equal(usual.body.lease_seconds, 30)
  t.equal((await get(usual.body.effect_id)).body.on_lease_expiry, 'hold')
  const quick = await claim(newEffect('quick'))
  t.equal(quick.body.lease_seconds, 0.5)
  const signal = await claim({ ...newEffect('signal_consumption'), result: 1 })
  const { body } = await get(signal.body.effect_id)
  t.equal(body.on_lease_expiry, 'reclaim')
  t.equal(Date.parse(body.expires_at) - Date.parse(body.completed_at), 259_200_000)
})

t.test('row: the stored fingerprint differs', async (t) => {
  const app = await startApp(t)
  const { claim, complete, release } = effectCalls(app)
  const effect = newEffect()
  const claim_id = randomUUID()
  const first = await claim({ ...effect, claim_id, payload: { qty: 1.0, side: 'buy' } })
  t.equal(first.status, 201)
  const different = await claim({ ...effect, claim_id, payload: { qty: 2, side: 'buy' } })
  t.equal(told(different), '422 fingerprint-mismatch', 'before the replay of the same claim')
  t.equal(different.body.effect_id, first.body.effect_id)
  t.equal(different.body.reference, first.body.reference)
  t.equal(different.body.state, 'in_progress')
  t.notOk('fencing_token' in different.body)
  t.equal(told(await claim({ ...effect, claim_id, payload: { side: 'buy', qty: 1 } })), '201 claimed', 'the same JCS')
  t.equal(told(await claim({ ...effect, claim_id })), '201 claimed', 'only compared when both are there')
  await complete({ ...effect, fencing_token: first.body.fencing_token, result: 1 })
  t.equal(told(await claim({ ...effect, payload: 'x' })), '422 fingerprint-mismatch', 'before the stored result')
  t.equal(told(await claim(effect)), '200 completed')
  const released = newEffect()
  const { body } = await claim({ ...released, claim_id, fingerprint: 'a' })
  await release({ ...released, fencing_token: body.fencing_token })
  t.equal(
    told(await claim({ ...released, claim_id, fingerprint: 'b' })),
    '422 fingerprint-mismatch',
    'before claim-ended',
  )
  t.equal(told(await claim({ ...released, fingerprint: 'b' })), '422 fingerprint-mismatch', 'of a released one too')
})

t.test('a fingerprint wins over the payload, and the payload hashes to the hex SHA-256 of its JCS text', async (t) => {
  const { claim, get } = effectCalls(await startApp(t))
  const named = await claim({ ...newEffect(), payload: 1, fingerprint: 'v1' })
  t.equal((await get(named.body.effect_id)).body.fingerprint, 'v1')
  const hashed = await claim({ ...newEffect(), payload: { b: 2, a: 1 } })
  const sha256OfJcs = '43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777'
  t.equal((await get(hashed.body.effect_id)).body.fingerprint, sha256OfJcs)
  const late = await claim(newEffect())
  t.equal((await get(late.body.effect_id)).body.fingerprint, null)
})

t.test('row: the same owner and claim_id hold it', async (t) => {
  const { claim } = effectCalls(await startApp(t))
  const effect = newEffect()
  const claim_id = randomUUID()
  const first = await claim({ ...effect, claim_id })
  const again = await claim({ ...effect, claim_id, lease_seconds: 3000 })
  t.equal(again.status, 201)
  t.equal(again.headers['idempotent-replayed'], 'true')
  const { lease_remaining_seconds: _first, ...grant } = first.body
  const { lease_remaining_seconds: _again, ...repeated } = again.body
  t.same(repeated, { ...grant, replayed: true }, 'the same grant')
  t.equal(told(await claim({ ...effect, claim_id, owner: 'bot-2' })), '409 effect-in-progress', 'another owner')
  t.equal(told(await claim({ ...effect, claim_id: randomUUID() })), '409 effect-in-progress', 'another claim_id')
  t.equal(told(await claim(effect)), '409 effect-in-progress', 'no claim_id')
})

t.test('row: a claim_id whose attempt has ended without settling starts nothing', async (t) => {
  const app = await startApp(t, { config })
  const { claim, fail, release, resolve, remove, complete } = effectCalls(app)
  const ends: Record<string, (held: object, effectId: string, token: number) => Promise<unknown>> = {
    release: (held) => release(held),
    'fail to released': (held) => fail({ ...held, ...passing }),
    'fail to uncertain': (held) => fail({ ...held, error: 'x', execution: 'unknown' }),
    'the end of the lease': () => app.moveClock(31),
    'not_executed by a person': (_, effectId, fencing_token) =>
      resolve(effectId, { resolution: 'not_executed', reason: 'looked', fencing_token }),
  }
  for (const [name, end] of Object.entries(ends)) {
    const effect = newEffect()
    const claim_id = randomUUID()
    const { body } = await claim({ ...effect, claim_id })
    await end({ ...effect, fencing_token: body.fencing_token }, body.effect_id, body.fencing_token)
    const late = await claim({ ...effect, claim_id })
    t.equal(told(late), '409 claim-ended', `after ${name}`)
    t.equal(late.body.effect_id, body.effect_id)
  }
  const silent = newEffect('reclaimable')
  const claim_id = randomUUID()
  await claim({ ...silent, claim_id })
  await app.moveClock(31)
  t.equal(told(await claim({ ...silent, claim_id })), '409 claim-ended', 'after the end of the lease under reclaim')
  const second = await claim(silent)
  t.equal(second.body.attempt, 2)
  t.equal(told(await claim({ ...silent, claim_id })), '409 claim-ended', 'while another holds it')
  await complete({ ...silent, fencing_token: second.body.fencing_token })
  t.equal(told(await claim({ ...silent, claim_id })), '409 claim-ended', 'after another has completed it')
  await remove(second.body.effect_id)
  const deleted = await claim({ ...silent, claim_id })
  t.equal(told(deleted), '409 claim-ended', 'after it was deleted')
  t.match(deleted.body, { state: null, attempt: null, updated_at: null }, 'of what is deleted nothing is told')
})

t.test('a claim whose attempt has settled after all is told the outcome', async (t) => {
  const app = await startApp(t)
  const { claim, complete, fail, resolve } = effectCalls(app)
  const settle: Record<string, (held: object, effectId: string) => Promise<unknown>> = {
    '200 completed': (held) => complete({ ...held, result: 1 }),
    '200 failed': (held) => fail({ ...held, ...rejected }),
  }
  for (const [outcome, act] of Object.entries(settle)) {
    const effect = newEffect()
    const claim_id = randomUUID()
    const { body } = await claim({ ...effect, claim_id })
    await act({ ...effect, fencing_token: body.fencing_token }, body.effect_id)
    t.equal(told(await claim({ ...effect, claim_id })), outcome)
  }
  const late = newEffect()
  const claim_id = randomUUID()
  const { body } = await claim({ ...late, claim_id })
  await app.moveClock(31)
  t.equal(told(await claim(late)), '409 effect-uncertain')
  await complete({ ...late, fencing_token: body.fencing_token, result: 'late truth' })
  t.equal(told(await claim({ ...late, claim_id })), '200 completed', 'completed late')
  const looked = newEffect()
  const other = await claim({ ...looked, claim_id })
  await app.moveClock(31)
  await resolve(other.body.effect_id, { resolution: 'executed', reason: 'it is there', result: 7 })
  t.equal(told(await claim({ ...looked, claim_id })), '200 completed', 'settled by a person')
})

t.test('the last eight claims are remembered', async (t) => {
  const { claim, release } = effectCalls(await startApp(t))
  const effect = newEffect()
  const ids = Array.from({ length: 9 }, () => randomUUID())
  for (const claim_id of ids) {
    const { body } = await claim({ ...effect, claim_id })
    await release({ ...effect, fencing_token: body.fencing_token })
  }
  for (const claim_id of ids.slice(1)) t.equal(told(await claim({ ...effect, claim_id })), '409 claim-ended')
  t.equal(told(await claim({ ...effect, claim_id: ids[0] })), '201 claimed', 'the ninth is forgotten')
})

t.test('rows: completed and failed answer everybody with the stored outcome', async (t) => {
  const { claim, complete, fail } = effectCalls(await startApp(t))
  const effect = newEffect()
  const { body: grant } = await claim(effect)
  const { body: done } = await complete({ ...effect, fencing_token: grant.fencing_token, result: { order: 7 } })
  const completed = await claim({ ...effect, owner: 'bot-2' })
  t.equal(completed.status, 200)
  t.equal(completed.headers['idempotent-replayed'], 'true')
  const { completed_at } = done
  t.same(completed.body, {
    ...{ outcome: 'completed', effect_id: grant.effect_id, attempt: 1, completed_at, result: { order: 7 } },
    replayed: true,
  })
  const other = newEffect()
  const { body: second } = await claim(other)
  await fail({ ...other, fencing_token: second.fencing_token, ...rejected })
  const failed = await claim({ ...other, owner: 'bot-2' })
  t.equal(failed.status, 200)
  t.equal(failed.headers['idempotent-replayed'], 'true')
  t.match(failed.body, { outcome: 'failed', error: { message: 'insufficient balance' }, attempt: 1, replayed: true })
  t.match(failed.body.failed_at, /Z$/)
})

t.test('row: another holder has a living lease', async (t) => {
  const { claim } = effectCalls(await startApp(t))
  const effect = newEffect()
  const { body: grant } = await claim({ ...effect, lease_seconds: 100, metadata: { a: 'b' } })
  const refused = await claim({ ...effect, owner: 'bot-2' })
  t.equal(told(refused), '409 effect-in-progress')
  const { body } = refused
  t.match(body, { outcome: 'in_progress', state: 'in_progress', owner: 'bot-1', attempt: 1, metadata: { a: 'b' } })
  t.equal(body.effect_id, grant.effect_id)
  t.equal(body.reference, grant.reference)
  t.equal(body.lease_expires_at, grant.lease_expires_at)
  t.ok(body.lease_remaining_seconds > 98 && body.lease_remaining_seconds <= 100)
  t.equal(body.updated_at, grant.claimed_at)
  const wait = Number(refused.headers['retry-after'])
  t.ok(wait >= 99 && wait <= 100)
  t.equal(body.retry_after_seconds, wait)
  t.notOk('fencing_token' in body)
})

t.test('row: a silent holder under hold makes the effect uncertain at once', async (t) => {
  const app = await startApp(t)
  const { claim } = effectCalls(app)
  const effect = newEffect()
  const { body: grant } = await claim(effect)
  await app.moveClock(29)
  t.equal(told(await claim(effect)), '409 effect-in-progress', 'a second before the end')
  await app.moveClock(1)
  const uncertain = await claim(effect)
  t.equal(told(uncertain), '409 effect-uncertain', 'at the very end')
  t.match(uncertain.body, { outcome: 'uncertain', state: 'uncertain', owner: 'bot-1' })
  t.notOk('retry-after' in uncertain.headers)
  t.notOk('fencing_token' in uncertain.body)
  t.equal(told(await claim(effect)), '409 effect-uncertain')
  const events = app.events.filter((event) => 'effect_id' in event && event.effect_id === grant.effect_id)
  t.match(events, [{ event: 'effect.uncertain', owner: 'bot-1', attempt: 1, cause: 'lease_expired' }])
  t.equal(events.length, 1, 'told once')
})

t.test('row: over the memory budget new effects are refused, and everything about others works', async (t) => {
  const app = await startApp(t, { config: 'retry: { redis: { memory_budget_mb: 1 } }' })
  const { claim, hold, complete, fail, release, renew, get } = effectCalls(app)
  const [held, free, failing] = [await hold(newEffect()), newEffect(), await hold(newEffect())]
  await release({ ...free, fencing_token: (await hold(free)).fencing_token })
  const done = newEffect()
  await claim({ ...done, result: 1 })
  await redisCli(app.redis.port, 'SET', 'test:ballast', 'x'.repeat(3_000_000))
  t.teardown(() => redisCli(app.redis.port, 'DEL', 'test:ballast'))
  await app.services.memory.refresh()
  const refused = await claim({ ...newEffect(), job_type: 'orders' })
  t.equal(told(refused), '507 memory-budget-exceeded')
  t.equal(refused.body.budget_bytes, 1024 * 1024)
  t.ok(refused.body.used_bytes > 3_000_000)
  t.match(
    app.events.filter(({ event }) => event === 'memory.budget'),
    [{ percent: 100 }],
  )
  t.equal(told(await claim(free)), '201 claimed', 'a released one')
  t.equal(told(await claim(done)), '200 completed')
  t.equal((await renew(held.held)).status, 200)
  t.equal((await get(held.effect_id)).status, 200)
  t.equal((await complete(held.held)).status, 200)
  t.equal((await fail({ ...failing.held, ...rejected })).status, 200)
  await redisCli(app.redis.port, 'DEL', 'test:ballast')
  await app.services.memory.refresh()
  t.equal(told(await claim(newEffect())), '201 claimed', 'again when there is room')
})

t.test('row: one attempt more than max_attempts settles the effect as failed', async (t) => {
  const app = await startApp(t, { config })
  const { hold, fail } = effectCalls(app)
  const effect = newEffect('twice')
  await fail({ ...(await hold(effect)).held, ...passing })
  const second = await hold(effect)
  t.equal((await fail({ ...second.held, ...passing })).body.outcome, 'failed', 'the last attempt fails for good')

  const changing = newEffect('changing')
  const { held } = await hold(changing)
  await fail({ ...held, error: { message: 'slow down', code: 429 }, execution: 'no', retryable: true })
  const strict = await startApp(t, { config: 'effects: { types: { changing: { max_attempts: 1 } } }' })
  const { claim, get } = effectCalls(strict)
  const exhausted = await claim(changing)
  t.equal(told(exhausted), '200 failed', 'fewer attempts are allowed now')
  t.match(exhausted.body.error, { code: 'attempts_exhausted', last: { message: 'slow down', code: 429 } })
  t.equal(told(await claim(changing)), '200 failed', 'and it stays failed')
  t.match((await get(exhausted.body.effect_id)).body, { state: 'failed', not_before: null }, 'nobody is to come again')
})

t.test('row: one attempt more after an attempt in doubt is uncertain, and told once', async (t) => {
  const app = await startApp(t, { config })
  const { claim, hold, resolve, get } = effectCalls(app)
  const effect = newEffect('signal_consumption')
  for (const attempt of [1, 2, 3]) {
    t.equal((await hold(effect)).grant.attempt, attempt)
    await app.moveClock(31)
  }
  const exhausted = await claim(effect)
  t.equal(told(exhausted), '409 effect-uncertain', 'three silent holders under reclaim')
  const { attempt, effect_id } = exhausted.body
  t.equal(attempt, 3)
  t.equal(told(await claim(effect)), '409 effect-uncertain')
  t.equal(app.events.filter(({ event }) => event === 'effect.uncertain').length, 1)
  const { fencing_token } = (await get(effect_id)).body
  await resolve(effect_id, { resolution: 'not_executed', reason: 'looked', fencing_token })
  t.equal((await hold(effect)).grant.attempt, 1, 'attempts start again after a resolve')
})

t.test('row: else it is granted: released, or its lease ran out under reclaim', async (t) => {
  const app = await startApp(t, { config })
  const { hold, release, fail } = effectCalls(app)
  const effect = newEffect()
  const one = await hold(effect)
  await release(one.held)
  const two = await hold(effect)
  t.equal(two.grant.attempt, 1, 'a release does not count')
  await fail({ ...two.held, ...passing })
  const three = await hold(effect, { owner: 'bot-2' })
  t.equal(three.grant.attempt, 2, 'before not_before too: it is advice')
  t.equal(three.grant.reference, one.grant.reference, 'the same for every attempt')
  t.ok(one.fencing_token < two.fencing_token && two.fencing_token < three.fencing_token)
  const silent = newEffect('reclaimable')
  const lost = await hold(silent)
  await app.moveClock(30)
  const next = await hold(silent, { owner: 'bot-2' })
  t.equal(next.grant.attempt, 2)
  const reclaimed = app.events.filter(({ event }) => event === 'effect.reclaimed')
  t.match(reclaimed, [{ effect_id: lost.effect_id, owner: 'bot-2', attempt: 2 }], 'one in doubt handed out again')
})

t.test('reclaim may be asked for only where the type allows it, hold anywhere', async (t) => {
  const app = await startApp(t, { config })
  const { claim } = effectCalls(app)
  const refused = await claim({ ...newEffect(), on_lease_expiry: 'reclaim' })
  t.equal(told(refused), '400 invalid-request')
  t.equal(refused.body.errors[0].pointer, '/on_lease_expiry')
  t.equal(told(await claim({ ...newEffect('either'), on_lease_expiry: 'reclaim' })), '201 claimed')
  const held = { ...newEffect('reclaimable'), on_lease_expiry: 'hold' }
  t.equal(told(await claim(held)), '201 claimed')
  await app.moveClock(31)
  const { on_lease_expiry: _policy, ...plain } = held
  t.equal(told(await claim(plain)), '409 effect-uncertain', 'the policy is the one that the attempt was granted with')
})

t.test('a result in a claim is grant and completion in one', async (t) => {
  const app = await startApp(t)
  const { claim, complete } = effectCalls(app)
  const effect = newEffect('signal_consumption')
  const claim_id = randomUUID()
  const first = await claim({ ...effect, claim_id, result: { seen: true } })
  t.equal(told(first), '201 completed')
  t.match(first.body, { attempt: 1, result: { seen: true }, lease_expires_at: null, lease_remaining_seconds: 0 })
  t.match(first.body.completed_at, /Z$/)
  const again = await claim({ ...effect, claim_id, result: { seen: true } })
  t.equal(told(again), '201 completed', 'the same claim')
  t.equal(again.body.replayed, true)
  t.equal(again.body.fencing_token, first.body.fencing_token)
  t.equal(told(await claim({ ...effect, result: 1 })), '200 completed', 'everybody else is answered as always')
  const held = newEffect()
  await claim(held)
  t.equal(told(await claim({ ...held, result: 1, owner: 'bot-2' })), '409 effect-in-progress')
  const { fencing_token } = first.body
  t.equal((await complete({ ...effect, fencing_token, result: { seen: true } })).body.replayed, true)
  const released = newEffect()
  const { body } = await claim(released)
  await effectCalls(app).release({ ...released, fencing_token: body.fencing_token })
  t.equal(told(await claim({ ...released, result: 0 })), '201 completed', 'also of a released one')
})

t.test('member order and number spelling of an entity do not matter, anything else does', async (t) => {
  const { call } = await startApp(t)
  const run = randomUUID()
  const claim = (entity: string, type = 'a') =>
    call('POST', '/api/v1/effects/claim', `{"type":"${type}","entity":${entity},"owner":"o"}`)
  const first = await claim(`{"a":1.0,"b":{"c":[1e2,0.1],"run":"${run}"}}`)
  t.equal(first.status, 201)
  const same = [
    `{ "b":{"run":"${run}","c":[100,1e-1]}, "a":1 }`,
    `{"a":1e0,"\\u0062":{"c":[100.0,0.10],"run":"${run}"}}`,
  ]
  for (const entity of same) {
    const { status, body } = await claim(entity)
    t.equal(status, 409)
    t.equal(body.effect_id, first.body.effect_id)
  }
  const others = [
    `{"a":"1","b":{"c":[100,0.1],"run":"${run}"}}`,
    `{"a":1,"b":{"c":[0.1,100],"run":"${run}"}}`,
    `{"a":1,"b":{"c":[100,0.1],"run":"${run}"},"__proto__":{}}`,
    `{"a":1,"b":{"c":[100,0.1],"run":"${run}"},"d":null}`,
    `"${run}"`,
    `"${run}e\u0301"`,
    `"${run}\u00e9"`,
  ]
  for (const entity of others) t.equal((await claim(entity)).status, 201, entity)
  t.equal((await claim(`"${run}"`, 'b')).status, 201, 'another type is another effect')
})

t.test('an effect may be named by its id', async (t) => {
  const { claim, hold } = effectCalls(await startApp(t))
  const effect = newEffect()
  const { effect_id } = await hold(effect)
  t.equal(told(await claim({ effect_id })), '409 effect-in-progress')
  t.equal(told(await claim({ effect_id: `order_placement.${'0'.repeat(64)}`, metadata: {} })), '201 claimed')
})

t.test('a type in shadow mode is never refused for duplication', async (t) => {
  const app = await startApp(t, { config })
  const { claim, complete } = effectCalls(app)
  const effect = newEffect('watched')
  const first = await claim(effect)
  t.equal(told(first), '201 claimed')
  t.notOk('would_be' in first.body)
  const second = await claim({ ...effect, owner: 'bot-2' })
  t.equal(told(second), '201 claimed')
  t.equal(second.body.would_be, 'in_progress')
  await complete({ ...effect, fencing_token: first.body.fencing_token, result: 1 })
  const third = await claim(effect)
  t.equal(told(third), '201 claimed')
  t.equal(third.body.would_be, 'completed')
})

t.test('types that are not configured are refused where the configuration says so', async (t) => {
  const strict = 'effects: { allow_unknown_types: false, types: { mine: {} } }'
  const { claim } = effectCalls(await startApp(t, { config: strict }))
  t.equal(told(await claim(newEffect('mine'))), '201 claimed')
  t.equal(told(await claim(newEffect('ledger_write'))), '201 claimed')
  const refused = await claim(newEffect('theirs'))
  t.equal(told(refused), '400 invalid-request')
  t.equal(refused.body.errors[0].pointer, '/type')
  const named = { effect_id: `theirs.${'0a'.repeat(32)}`, owner: 'o' }
  for (const more of [{}, { claim_id: 'c', wait_seconds: 1 }]) {
    const byId = await claim({ ...named, ...more })
    t.equal(told(byId), '400 invalid-request')
    t.equal(byId.body.errors[0].pointer, '/effect_id', 'where the type was sent')
  }
})
