/** What a person decides (resolve, delete), what everybody may look at (get, lookup, list), and the sweep. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { createSweep } from '../../src/effects/sweep.ts'
import type { Store } from '../../src/redis/client.ts'
import { type Answer, makeKey, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'

const config = 'effects: { types: { reclaimable: { on_lease_expiry: reclaim } } }'

const told = ({ status, body }: Answer) => `${status} ${body?.code ?? body?.state ?? ''}`.trim()

/** A namespace of one test's own, with a key of each role. */
function tenant() {
  const namespace = randomNamespace()
  const keys = {
    reader: makeKey('reader', namespace, 'ann'),
    worker: makeKey('worker', namespace, 'bot'),
    operator: makeKey('operator', namespace, 'olga'),
  }
  const entries = Object.values(keys).map(({ entry }) => entry)
  return { namespace, keys, config: JSON.stringify({ auth: { keys: entries } }) }
}

t.test('resolve: executed stores the result, not_executed frees the effect, abandoned fails it', async (t) => {
  const app = await startApp(t)
  const { hold, claim, resolve, fail } = effectCalls(app)
  const doubt = async () => {
    const effect = newEffect()
    const holder = await hold(effect)
    await fail({ ...holder.held, error: 'timeout', execution: 'unknown' })
    return { effect, ...holder }
  }
  const one = await doubt()
  const executed = await resolve(one.effect_id, {
    ...{ resolution: 'executed', reason: 'order 7 exists', result: { order: 7 }, evidence: { page: 1 }, user: 'ann' },
  })
  t.equal(told(executed), '200 completed')
  t.same(executed.body.result, { order: 7 })
  t.equal(executed.body.error, null)
  t.ok(executed.body.fencing_token > one.fencing_token, 'the token moves on')
  t.match(executed.body.history.at(-1), { step: 'resolved', by: 'ann', detail: 'executed: order 7 exists' })
  t.match(await claim(one.effect), { status: 200, body: { outcome: 'completed', result: { order: 7 } } })

  const two = await doubt()
  const { fencing_token } = two
  const freed = await resolve(two.effect_id, { resolution: 'not_executed', reason: 'no order', fencing_token })
  t.equal(told(freed), '200 released')
  t.equal(freed.body.attempt, 0)
  const next = await hold(two.effect)
  t.equal(next.grant.attempt, 1, 'attempts start again')

  const three = await doubt()
  const given = await resolve(three.effect_id, { resolution: 'abandoned', reason: 'too late to matter' })
  t.equal(told(given), '200 failed')
  t.match(given.body.error, { code: 'abandoned', message: 'too late to matter' })
  t.match(await claim(three.effect), { status: 200, body: { outcome: 'failed' } })
  const resolved = app.events.filter(({ event }) => event === 'effect.resolved')
  t.match(resolved, [
    { effect_id: one.effect_id, resolution: 'executed', user: 'ann' },
    { effect_id: two.effect_id, resolution: 'not_executed', user: 'anonymous' },
    { effect_id: three.effect_id, resolution: 'abandoned' },
  ])
  t.equal(
    told(await resolve(one.effect_id, { resolution: 'abandoned', reason: 'changed my mind' })),
    '409 already-settled',
  )
})

t.test('an operator may resolve any state but completed', async (t) => {
  const app = await startApp(t)
  const { hold, resolve, release, fail, complete, renew } = effectCalls(app)
  const running = await hold(newEffect())
  t.equal(told(await resolve(running.effect_id, { resolution: 'abandoned', reason: 'stop it' })), '200 failed')
  t.equal(told(await renew(running.held)), '409 stale-token', 'the old holder is stale')
  t.equal(told(await complete(running.held)), '409 stale-token')
  const released = await hold(newEffect())
  await release(released.held)
  t.equal(told(await resolve(released.effect_id, { resolution: 'executed', reason: 'by hand' })), '200 completed')
  const failed = await hold(newEffect())
  await fail({ ...failed.held, ...rejected })
  const { effect_id, fencing_token } = failed
  const retry = { resolution: 'not_executed', reason: 'try again', fencing_token }
  t.equal(told(await resolve(effect_id, retry)), '200 released')
  const silent = await hold(newEffect())
  await app.moveClock(31)
  t.equal(told(await resolve(silent.effect_id, { resolution: 'executed', reason: 'looked' })), '200 completed')
})

t.test('a resolve that looked at an older record is stale', async (t) => {
  const { hold, resolve, release } = effectCalls(await startApp(t))
  const effect = newEffect()
  const first = await hold(effect)
  await release(first.held)
  await hold(effect)
  const { effect_id, fencing_token } = first
  for (const resolution of ['executed', 'not_executed', 'abandoned'])
    t.equal(told(await resolve(effect_id, { resolution, reason: 'looked', fencing_token })), '409 stale-token')
  const missing = await resolve(effect_id, { resolution: 'not_executed', reason: 'looked' })
  t.equal(told(missing), '400 invalid-request', 'not_executed needs the token of the record that was looked at')
  t.equal(missing.body.errors[0].pointer, '/fencing_token')
  const misplaced = await resolve(effect_id, { resolution: 'abandoned', reason: 'looked', result: 1 })
  t.equal(misplaced.body.errors[0].pointer, '/result')
})

t.test('the same resolve again gives the same answer until somebody has claimed', async (t) => {
  const app = await startApp(t)
  const { hold, resolve } = effectCalls(app)
  const effect = newEffect()
  const { effect_id, fencing_token } = await hold(effect)
  const body = { resolution: 'not_executed', reason: 'looked', evidence: [1], fencing_token, user: 'ann' }
  const first = await resolve(effect_id, body)
  const again = await resolve(effect_id, body)
  t.same(again.body, { ...first.body, replayed: true })
  t.equal(again.headers['idempotent-replayed'], 'true')
  t.equal(app.events.filter(({ event }) => event === 'effect.resolved').length, 1, 'told once')
  t.equal(told(await resolve(effect_id, { ...body, reason: 'looked twice' })), '409 stale-token', 'another body')
  await hold(effect)
  t.equal(told(await resolve(effect_id, body)), '409 stale-token', 'somebody has claimed')
  const done = await hold(newEffect())
  const executed = { resolution: 'executed', reason: 'looked', result: 1 }
  t.equal(told(await resolve(done.effect_id, executed)), '200 completed')
  t.equal((await resolve(done.effect_id, executed)).body.replayed, true)
  t.equal(told(await resolve(done.effect_id, { ...executed, result: 2 })), '409 already-settled')
})

t.test('a worker resolves what is uncertain, with evidence and the token it looked at', async (t) => {
  const { keys, config } = tenant()
  const app = await startApp(t, { config })
  const worker = effectCalls(app, keys.worker.headers)
  const operator = effectCalls(app, keys.operator.headers)
  const { held, effect_id, fencing_token } = await worker.hold(newEffect())
  const whole = { resolution: 'executed', reason: 'found by reference', evidence: { id: 1 }, fencing_token }
  const early = await worker.resolve(effect_id, whole)
  t.equal(told(early), '409 effect-in-progress', 'only uncertain ones')
  await worker.fail({ ...held, error: 'timeout', execution: 'unknown' })
  const { evidence: _evidence, ...unproven } = whole
  const { fencing_token: _token, ...blind } = whole
  const bare = await worker.resolve(effect_id, { resolution: 'abandoned', reason: 'why not' })
  t.equal(told(await worker.resolve(effect_id, unproven)), '400 invalid-request')
  t.equal(told(await worker.resolve(effect_id, blind)), '400 invalid-request')
  t.same(
    bare.body.errors.map(({ pointer }: { pointer: string }) => pointer),
    ['/evidence', '/fencing_token'],
  )
  const done = await worker.resolve(effect_id, { ...whole, user: 'somebody' })
  t.equal(told(done), '200 completed')
  t.match(done.body.history.at(-1), { by: 'bot' }, "the key's name is who did it")
  t.equal(told(await worker.resolve(effect_id, { ...whole, reason: 'once more' })), '409 stale-token')
  const silent = await worker.hold(newEffect())
  await app.moveClock(31)
  const unswept = { ...whole, fencing_token: silent.fencing_token }
  t.equal(
    told(await worker.resolve(silent.effect_id, unswept)),
    '200 completed',
    'a silent holder is uncertain at once',
  )
  const failed = await worker.hold(newEffect())
  await worker.fail({ ...failed.held, ...rejected })
  t.equal(
    told(await worker.resolve(failed.effect_id, { ...whole, fencing_token: failed.fencing_token })),
    '409 already-settled',
  )
  const person = { resolution: 'executed', reason: 'I know', user: 'boss' }
  t.match(await operator.resolve(failed.effect_id, person), { status: 200, body: { state: 'completed' } })
})

t.test('delete forgets a settled or released record and nothing else', async (t) => {
  const app = await startApp(t)
  const { hold, complete, release, fail, remove, get } = effectCalls(app)
  const done = await hold(newEffect())
  t.equal(told(await remove(done.effect_id)), '409 not-settled', 'in progress')
  await complete(done.held)
  t.equal(told(await remove(done.effect_id, 'reason=old&fencing_token=1')), '409 stale-token')
  const token = `reason=old%20one&fencing_token=${done.fencing_token}`
  const removed = await remove(done.effect_id, token)
  t.equal(removed.status, 204)
  t.equal(removed.text, '')
  t.equal(told(await remove(done.effect_id, token)), '404 effect-not-found')
  t.equal(told(await get(done.effect_id)), '404 effect-not-found')
  const released = await hold(newEffect())
  await release(released.held)
  t.equal((await remove(released.effect_id)).status, 204)
  const failed = await hold(newEffect())
  await fail({ ...failed.held, ...rejected })
  t.equal((await remove(failed.effect_id)).status, 204)
  const uncertain = await hold(newEffect())
  await app.moveClock(31)
  const refused = await remove(uncertain.effect_id)
  t.equal(told(refused), '409 not-settled', 'a silent holder')
  t.equal(refused.body.state, 'uncertain')
  await app.services.sweep.once()
  t.equal(told(await remove(uncertain.effect_id)), '409 not-settled', 'uncertain')
  for (const query of ['', 'reason=ab', 'reason=abc&fencing_tokn=1', 'reason=abc&fencing_token=x'])
    t.equal(told(await remove(failed.effect_id, query)), '400 invalid-request', query)
})

t.test(
  'a deleted effect remembers its token: a late holder stays stale, the next claim gets a greater one',
  async (t) => {
    const app = await startApp(t)
    const { hold, complete, remove, fail, release, renew, resolve } = effectCalls(app)
    const effect = newEffect()
    const old = await hold(effect)
    await complete({ ...old.held, result: 1 })
    await remove(old.effect_id)
    t.equal(told(await complete({ ...old.held, result: 1 })), '409 stale-token')
    t.equal(told(await fail({ ...old.held, ...passing })), '409 stale-token')
    t.equal(told(await renew(old.held)), '409 stale-token')
    t.equal(told(await release(old.held)), '409 stale-token')
    t.equal(told(await resolve(old.effect_id, { resolution: 'abandoned', reason: 'gone' })), '404 effect-not-found')
    const next = await hold(effect)
    t.ok(next.fencing_token > old.fencing_token)
    t.equal(next.grant.attempt, 1)
    t.equal(told(await complete({ ...old.held, result: 1 })), '409 stale-token')
  },
)

t.test('a record has every member, null where it has no value', async (t) => {
  const app = await startApp(t)
  const { hold, get, complete, fail } = effectCalls(app)
  const nothing = {
    ...{ job_type: null, metadata: null, fingerprint: null, result: null, error: null },
    ...{ not_before: null, completed_at: null, failed_at: null, expires_at: null },
  }
  const effect = newEffect()
  const { held, grant, effect_id, fencing_token } = await hold(effect)
  const bare = (await get(effect_id)).body
  const { created_at } = bare
  t.same(bare, {
    ...nothing,
    ...{ effect_id, ...effect, state: 'in_progress', owner: 'bot-1', fencing_token, attempt: 1 },
    ...{ reference: grant.reference, on_lease_expiry: 'hold', durability: 'primary' },
    ...{ created_at, updated_at: created_at, lease_expires_at: grant.lease_expires_at, history: [] },
  })
  await complete({ ...held, result: [1] })
  const done = (await get(effect_id)).body
  t.match(done, { state: 'completed', entity: null, result: [1], error: null, lease_expires_at: null, owner: 'bot-1' })
  t.equal(done.completed_at, done.updated_at)
  t.equal(Date.parse(done.expires_at) - Date.parse(done.completed_at), 259_200_000)
  t.same(done.history, [], 'plain claim and complete is no history')
  const full = await hold(
    { type: 'ledger_write', entity: { b: [1, { c: 'é' }], a: randomUUID() } },
    { job_type: 'orders', metadata: { k: 'v' }, fingerprint: 'f', retention_seconds: 100 },
  )
  await fail({ ...full.held, ...rejected })
  const failed = (await get(full.effect_id)).body
  t.match(failed, { type: 'ledger_write', job_type: 'orders', metadata: { k: 'v' }, fingerprint: 'f', state: 'failed' })
  t.match(failed, { error: { message: 'insufficient balance' }, result: null, completed_at: null, entity: null })
  t.equal(Date.parse(failed.expires_at) - Date.parse(failed.failed_at), 100_000)
  t.match(failed.history, [{ step: 'failed', attempt: 1, by: 'bot-1', detail: 'fail' }])
})

t.test('an entity is given back as it was sent until the effect settles', async (t) => {
  const { call } = await startApp(t)
  const entity = `{"z":1.50,"a":{"__proto__":null},"n":"${randomUUID()}"}`
  const { body } = await call('POST', '/api/v1/effects/claim', `{"type":"a","entity":${entity},"owner":"o"}`)
  const { text } = await call('GET', `/api/v1/effects/${body.effect_id}`)
  t.ok(text.includes(`"entity":${entity.replace('1.50', '1.5')}`), 'members in their order, no member lost')
})

t.test('history keeps the last twenty steps', async (t) => {
  const app = await startApp(t)
  const { hold, release, get } = effectCalls(app)
  const effect = newEffect()
  let effect_id = ''
  for (let round = 1; round <= 14; round++) {
    const holder = await hold(effect, { owner: `bot-${round}` })
    effect_id = holder.effect_id
    await release({ ...holder.held, reason: `round ${round}` })
  }
  const { history } = (await get(effect_id)).body
  t.equal(history.length, 20)
  t.match(history.at(-1), { step: 'released', detail: 'round 14', by: 'bot-14' })
  t.match(history.at(-2), { step: 'claimed', by: 'bot-14' })
  t.match(history[0], { step: 'claimed', by: 'bot-5' }, 'the oldest are dropped')
  t.match(history[0].at, /Z$/)
})

t.test('lookup finds an effect by type and entity', async (t) => {
  const { call } = await startApp(t)
  const { hold } = effectCalls({ call })
  const lookup = (query: Record<string, string>) =>
    call('GET', `/api/v1/effects/lookup?${new URLSearchParams(query).toString()}`)
  const text = { type: 'a', entity: `é "quoted" ${randomUUID()}` }
  const { effect_id } = await hold(text)
  t.equal((await lookup(text)).body.effect_id, effect_id)
  const object = { type: 'a', entity: { b: 1, a: randomUUID() } }
  const other = await hold(object)
  const entity_json = `{ "a":"${object.entity.a}", "b":1.0 }`
  t.equal((await lookup({ type: 'a', entity_json })).body.effect_id, other.effect_id)
  t.equal(told(await lookup({ type: 'b', entity_json })), '404 effect-not-found')
  t.equal(told(await lookup({ type: 'a', entity: entity_json })), '404 effect-not-found', 'a string is a string')
  const bad: Record<string, string>[] = [
    { type: 'a' },
    { entity: 'x' },
    { type: 'a', entity: '' },
    { type: 'a', entity: 'x', entity_json: '{}' },
    { type: 'a', entity: 'x', state: 'completed' },
    { type: 'A', entity: 'x' },
    { type: 'a', entity_json: '{"a":1' },
    { type: 'a', entity_json: '"text"' },
    { type: 'a', entity_json: '[1]' },
    { type: 'a', entity_json: '{"a":1,"a":2}' },
    { type: 'a', entity_json: '{"a":9007199254740993}' },
    { type: 'a', entity_json: '{"a":"\\ud800"}' },
    { type: 'a', entity: 'x'.repeat(1025) },
  ]
  for (const query of bad) {
    const { status, body } = await lookup(query)
    t.equal(status, 400, JSON.stringify(query))
    t.match(body.errors[0].pointer, /^\?|^\/entity$/, JSON.stringify(query))
  }
  t.equal((await call('GET', '/api/v1/effects/lookup?type=a&entity=x&entity=y')).status, 400, 'sent twice')
})

t.test('the list shows what is in progress and uncertain, and filters it', async (t) => {
  const { keys, config } = tenant()
  const app = await startApp(t, { config })
  const { hold, list, complete, fail, release, get } = effectCalls(app, keys.operator.headers)
  const running = await hold(newEffect('aa'), { owner: 'x' })
  const other = await hold(newEffect('bb'), { owner: 'y' })
  const doubtful = await hold(newEffect('aa'), { owner: 'y' })
  await fail({ ...doubtful.held, error: 'x', execution: 'unknown' })
  const done = await hold(newEffect('aa'))
  await complete(done.held)
  await release((await hold(newEffect('aa'))).held)
  const ids = async (query: string) => {
    const { status, body } = await list(query)
    t.equal(status, 200, query)
    t.equal(body.next_cursor, null)
    return new Set((body.effects as { effect_id: string }[]).map(({ effect_id }) => effect_id))
  }
  const [a, b, c] = [running.effect_id, other.effect_id, doubtful.effect_id]
  t.same(await ids(''), new Set([a, b, c]))
  t.same(await ids('?state=in_progress'), new Set([a, b]))
  t.same(await ids('?state=uncertain'), new Set([c]))
  t.same(await ids('?type=aa'), new Set([a, c]))
  t.same(await ids('?type=a'), new Set([]), 'a type is no prefix')
  t.same(await ids('?owner=y'), new Set([b, c]))
  t.same(await ids('?owner=y&type=aa&state=in_progress'), new Set([]))
  const { history: _history, ...record } = (await get(a)).body
  const listed = (await list('?owner=x')).body.effects
  t.same(listed, [record], 'the record without its history')
  await app.moveClock(31)
  t.same(await ids('?state=uncertain'), new Set([a, b, c]), 'a silent holder is uncertain, swept or not')
  t.same(await ids('?state=in_progress'), new Set([]))
  for (const query of ['?state=completed', '?limit=0', '?limit=501', '?limit=x', '?cursor=x', '?cursor=', '?stat=x'])
    t.equal((await list(query)).status, 400, query)
  for (const position of [[-1e9, '-inf', ''], [256, '-inf', ''], [0.5, '-inf', ''], [0, 'e+e', 'x'], [0, '1', 1], {}]) {
    const forged = Buffer.from(JSON.stringify(position)).toString('base64url')
    t.equal((await list(`?cursor=${forged}`)).status, 400, JSON.stringify(position))
  }
  const elsewhere = await startApp(t)
  t.notOk((await elsewhere.call('GET', '/api/v1/effects?limit=500')).text.includes(a), 'not in another namespace')
})

t.test('no page of the list misses an effect that was there all the time, while claims renew', async (t) => {
  const { keys, config } = tenant()
  const app = await startApp(t, { config })
  const { hold, list, renew } = effectCalls(app, keys.operator.headers)
  const holders = await Promise.all(Array.from({ length: 120 }, () => hold(newEffect('paged'))))
  const seen = new Set<string>()
  let cursor: string | null = ''
  let pages = 0
  while (cursor !== null) {
    const { body } = await list(`?limit=7${cursor && `&cursor=${cursor}`}`)
    t.ok(body.effects.length <= 7)
    for (const { effect_id } of body.effects as { effect_id: string }[]) seen.add(effect_id)
    cursor = body.next_cursor as string | null
    pages++
    await app.moveClock(0.01)
    for (const { held } of holders.slice((pages * 13) % 100).slice(0, 20)) await renew(held)
  }
  t.ok(pages >= 18)
  t.equal(seen.size, 120)
  const whole = await list('?limit=500')
  t.equal(whole.body.effects.length, 120)
  t.equal(whole.body.next_cursor, null)
  t.equal((await list()).body.effects.length, 50, 'fifty where nothing is said')
})

t.test(
  'the sweep settles a silent holder within a second and tells it once, however many processes sweep',
  async (t) => {
    const apps = [
      await startApp(t, { config, background: true }),
      await startApp(t, { config, background: true }),
      await startApp(t, { config, background: true }),
    ] as const
    const [app] = apps
    const { hold, claim } = effectCalls(app)
    const silent = await Promise.all(Array.from({ length: 5 }, () => hold(newEffect(), { lease_seconds: 0.3 })))
    const free = await hold(newEffect('reclaimable'), { lease_seconds: 0.3 })
    const effect = newEffect()
    const alive = await hold(effect, { lease_seconds: 60 })
    const ids = new Set(silent.map(({ effect_id }) => effect_id))
    const events = () =>
      apps.flatMap(({ events }) => events).filter((event) => 'effect_id' in event && ids.has(String(event.effect_id)))
    const startMs = performance.now()
    await waitFor(() => events().length >= 5, 3000)
    t.ok(performance.now() - startMs < 1300, 'a second after the lease of 0.3 s')
    t.match(events(), Array(5).fill({ event: 'effect.uncertain', cause: 'lease_expired', owner: 'bot-1', attempt: 1 }))
    for (const { effect_id } of silent) {
      const { body } = await app.call('GET', `/api/v1/effects/${effect_id}`)
      t.match(body, { state: 'uncertain', history: [{ step: 'lease_expired', by: 'bot-1', detail: 'uncertain' }] })
    }
    const reclaimable = async () =>
      (await app.call('GET', `/api/v1/effects/${free.effect_id}`)).body.state === 'released'
    await waitFor(reclaimable)
    t.equal(told(await claim(effect)), '409 effect-in-progress', 'a living lease is left alone')
    t.equal(
      new Set(events().map((event) => 'effect_id' in event && event.effect_id)).size,
      events().length,
      'once each',
    )
    t.equal(apps.flatMap(({ events }) => events).filter(({ event }) => event === 'effect.reclaimed').length, 0)
    t.ok(alive)
  },
)

t.test('the sweep settles a silent holder where a full Redis refuses the lease of the sweep', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { effect_id } = await effectCalls(app).hold(newEffect())
  await app.moveClock(31)
  await redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory', 1)
  t.equal(await app.services.sweep.once(), 1)
  const uncertain = app.events.filter(({ event }) => event === 'effect.uncertain')
  t.match(uncertain, [{ effect_id, cause: 'lease_expired' }])
})

t.test('a round of the sweep ends with its last namespace, also where another one fails before', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { effects, keys, store, log } = app.services
  await redisCli(redis.port, 'SET', keys.inflight('broken', 0), 'no index')
  await effectCalls(app).hold(newEffect())
  await app.moveClock(31)
  let failed = false
  let goOn = () => {}
  const gate = new Promise<void>((resolve) => (goOn = resolve))
  const run: Store['run'] = async (definition, names, ...rest) => {
    if (definition.name === 'effect-due' && names.includes(keys.inflight('default', 0))) await gate
    return store.run(definition, names, ...rest).finally(() => (failed ||= names.includes(keys.inflight('broken', 0))))
  }
  const sweep = createSweep({ ...effects.context, store: { ...store, run } }, ['broken', 'default'], log)
  let ended = false
  const round = sweep.once().finally(() => (ended = true))
  await waitFor(() => failed)
  t.notOk(ended, 'it does not end while a namespace is swept')
  goOn()
  await t.rejects(round, /WRONGTYPE/, 'and the trouble is told then')
  t.equal(app.events.filter(({ event }) => event === 'effect.uncertain').length, 1)
})

t.test('whoever looks first at a silent holder tells of it', async (t) => {
  const app = await startApp(t)
  const { hold, get } = effectCalls(app)
  const { effect_id } = await hold(newEffect())
  await app.moveClock(31)
  t.equal((await get(effect_id)).body.state, 'uncertain')
  t.equal((await get(effect_id)).body.state, 'uncertain')
  const events = app.events.filter((event) => 'effect_id' in event && event.effect_id === effect_id)
  t.match(events, [{ event: 'effect.uncertain', cause: 'lease_expired' }])
  t.equal(events.length, 1)
})

t.test('a late report or a resolve that meets a silent holder first tells of it, once', async (t) => {
  const app = await startApp(t)
  const { hold, complete, fail, resolve } = effectCalls(app)
  const said = (effectId: string) =>
    app.events.flatMap((event) =>
      event.event === 'effect.uncertain' && event.effect_id === effectId ? [event.cause] : [],
    )
  const holders = await Promise.all(Array.from({ length: 4 }, () => hold(newEffect())))
  const [done, failed, unknown, resolved] = holders.map((holder) => holder.held)
  const reclaimed = await hold(newEffect('signal_consumption'))
  const prompt = await hold(newEffect(), { lease_seconds: 100 })
  await app.moveClock(31)
  t.equal((await complete({ ...done, result: 1 })).status, 200)
  t.equal((await fail({ ...failed, ...rejected })).status, 200)
  t.match((await fail({ ...unknown, error: 'x', execution: 'unknown' })).body, { outcome: 'uncertain' })
  const executed = { resolution: 'executed', reason: 'looked' }
  t.equal((await resolve(resolved!.effect_id, executed)).status, 200)
  for (const { effect_id } of holders) t.same(said(effect_id), ['lease_expired'], effect_id)
  await complete({ ...done, result: 1 })
  await complete(reclaimed.held)
  await complete(prompt.held)
  t.same(said(holders[0]!.effect_id), ['lease_expired'], 'a repeat tells nothing')
  t.same(said(reclaimed.effect_id), [], 'under reclaim nobody is in doubt')
  t.same(said(prompt.effect_id), [], 'nor with a living lease')
})
