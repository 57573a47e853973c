/** The scripts of effects on a real Redis: what holds for every record, whatever the clock does. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import {
  type ClaimGuards,
  type ClaimTerms,
  claimTerms,
  effectClaim,
  effectComplete,
  effectExpire,
} from '../../src/effects/scripts.ts'
import { loadPreludes, type Preludes, scriptText } from '../../src/redis/scripts.ts'
import { leaseClock } from '../../src/redis/witness.ts'
import { clockOffsetKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'
import { redisCli, type RedisServer, startRedis } from '../helpers/redis-server.ts'

const config = 'effects: { types: { reclaimable: { on_lease_expiry: reclaim, max_attempts: 1000 } } }'

const keysOf = async ({ port }: RedisServer, pattern: string) => (await redisCli(port, 'KEYS', pattern)) as string[]

const terms: ClaimTerms = {
  ...{ lease_ms: 30_000, retention_ms: 60_000, policy: 'hold', max_attempts: 3, job_type: '', durability: 'primary' },
  ...{ has_result: false, wait: false, gate: false },
}
const unguarded: ClaimGuards = { absent_refused: false, over_budget: false, clock_step: '' }

/** Sends the claim script itself: what HTTP cannot say. */
async function claimScript(
  { services }: TestApp,
  effectId: string,
  args: object,
  given: Partial<ClaimTerms & ClaimGuards> = {},
) {
  const { store, effects } = services
  const { keys } = effects.context.locate('default', { effect_id: effectId })
  const clock = await store.clock()
  return store.run(effectClaim, keys, {
    ...{
      effect_id: effectId,
      deadline_us: clock.nowUs() + 2_000_000,
      floor_us: 0,
      clock_max_us: Number.MAX_SAFE_INTEGER,
    },
    ...{ owner: 'o', claim: randomUUID().slice(0, 22), fingerprint: '', metadata: '', entity: '', result: '' },
    terms: claimTerms({ ...terms, ...given }, { ...unguarded, ...given }),
    ...args,
  })
}

type ClaimValues = Record<string, string | number>

const newId = () => `a.${randomUUID().replaceAll('-', '').repeat(2)}`

t.test('only settled, released and deleted records vanish by themselves', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis, config })
  const { hold, complete, fail, release, remove, claim, resolve } = effectCalls(app)
  const retention = { retention_seconds: 1000 }
  const running = await hold(newEffect(), retention)
  const doubtful = await hold(newEffect(), retention)
  await fail({ ...doubtful.held, error: 'x', execution: 'unknown' })
  const settled = await Promise.all(Array.from({ length: 7 }, () => hold(newEffect(), retention)))
  const [done, failed, released, retried, deleted, late, resolved] = settled.map(({ held }) => held)
  await complete(done)
  await fail({ ...failed, ...rejected })
  await release(released)
  await fail({ ...retried, ...passing })
  await complete(deleted)
  await remove(deleted!.effect_id)
  await fail({ ...late, error: 'x', execution: 'unknown' })
  await complete(late)
  await resolve(resolved!.effect_id, { resolution: 'abandoned', reason: 'test' })
  const signal = await claim({ ...newEffect(), ...retention, result: 1 })
  const living = new Set([running.effect_id, doubtful.effect_id])
  const records = await keysOf(redis, '*:effect:*')
  t.equal(records.length, 10)
  for (const key of records) {
    const ttl = (await redisCli(redis.port, 'PTTL', key)) as number
    if (living.has(key.split(':effect:')[1]!)) t.equal(ttl, -1, `${key} stays`)
    else t.ok(ttl > 990_000 && ttl <= 1_000_000, `${key} vanishes after the retention (${ttl})`)
  }
  for (const key of await keysOf(redis, '*:inflight')) t.equal(await redisCli(redis.port, 'PTTL', key), -1)
  t.equal(signal.status, 201)
  const again = await hold({ effect_id: released!.effect_id })
  const [key] = await keysOf(redis, `*:effect:${again.effect_id}`)
  t.equal(await redisCli(redis.port, 'PTTL', key!), -1, 'claimed again, it stays again')
})

t.test('the index holds exactly what is in progress and uncertain', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis, config })
  const { hold, complete, fail, release, renew, resolve, get } = effectCalls(app)
  const scores = async () => {
    const found = new Map<string, number>()
    for (const key of await keysOf(redis, '*:inflight')) {
      const entries = (await redisCli(redis.port, 'ZRANGE', key, 0, -1, 'WITHSCORES')) as string[]
      for (let at = 0; at < entries.length; at += 2) found.set(entries[at]!, Number(entries[at + 1]))
    }
    return found
  }
  const holders = await Promise.all(Array.from({ length: 6 }, () => hold(newEffect(), { lease_seconds: 20 })))
  const ids = holders.map(({ effect_id }) => effect_id)
  const [a, b, c, d, e] = holders.map(({ held }) => held)
  for (const { grant } of holders)
    t.equal((await scores()).get(grant.effect_id), Date.parse(grant.lease_expires_at), 'at the end of its lease')
  const { body } = await renew({ ...a, lease_seconds: 100 })
  t.equal((await scores()).get(ids[0]!), Date.parse(body.lease_expires_at), 'and at the new one')
  await complete(b)
  await release(c)
  await fail({ ...d, error: 'x', execution: 'unknown' })
  await fail({ ...e, ...rejected })
  t.same(new Set((await scores()).keys()), new Set([ids[0], ids[3], ids[5]]))
  t.ok((await scores()).get(ids[3]!)! > 1e15, 'what is uncertain stands behind every lease')
  await app.moveClock(21)
  await app.services.sweep.once()
  t.same(new Set((await scores()).keys()), new Set([ids[0], ids[3], ids[5]]))
  t.ok((await scores()).get(ids[5]!)! > 1e15)
  for (const id of [ids[3]!, ids[5]!]) await resolve(id, { resolution: 'executed', reason: 'looked' })
  await complete(a)
  t.same([...(await scores()).keys()], [])
  t.equal((await get(ids[0]!)).body.state, 'completed')
})

t.test('a lease that is alive is left alone by whoever read before that it was over, and so is the end', async (t) => {
  const app = await startApp(t, { redis: await startRedis(t) })
  const { hold, renew, complete, get } = effectCalls(app)
  const { effect_id, held } = await hold(newEffect(), { lease_seconds: 10 })
  const { store, effects } = app.services
  const { keys } = effects.context.locate('default', { effect_id })
  const expire = async () => (await store.run(effectExpire, keys, { effect_id, ...leaseClock })).status
  await renew({ ...held, lease_seconds: 100 })
  await app.moveClock(20)
  t.equal(await expire(), 'current')
  t.equal((await get(effect_id)).body.state, 'in_progress')
  await app.moveClock(100)
  await complete({ ...held, result: 1 })
  t.equal(await expire(), 'current')
  t.equal((await get(effect_id)).body.state, 'completed')
})

t.test('an index entry without a record is dropped by the sweep', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { effect_id } = await effectCalls(app).hold(newEffect())
  await redisCli(redis.port, 'DEL', (await keysOf(redis, '*:effect:*'))[0]!)
  await app.moveClock(31)
  t.equal(await app.services.sweep.once(), 0)
  t.same(await keysOf(redis, '*:inflight'), [], effect_id)
  t.equal(app.events.length, 0)
})

t.test('the token of an effect rises through expiry, deletion, resolve and a clock that runs backwards', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis, config })
  const fresh = await startApp(t, { redis, config })
  const { complete, remove, release, resolve, get } = effectCalls(app)
  const effect = newEffect('reclaimable')
  const tokens: number[] = []
  const hold = async (by = app) => {
    const holder = await effectCalls(by).hold(effect)
    tokens.push(holder.fencing_token)
    return holder
  }
  await hold()
  await app.moveClock(31)
  await hold()
  await app.moveClock(-3600)
  await app.moveClock(31)
  t.match(
    (await effectCalls(fresh).claim(effect)).body,
    { code: 'effect-in-progress' },
    'record time does not run back',
  )
  await app.moveClock(3600)
  const third = await hold()
  await app.moveClock(-7200)
  await release(third.held)
  const fourth = await hold(fresh)
  t.equal(fourth.fencing_token, third.fencing_token + 1, 'one more where the clock is behind')
  await complete(fourth.held)
  await remove(fourth.effect_id)
  const fifth = await hold(fresh)
  t.equal(fifth.fencing_token, fourth.fencing_token + 1, 'a deleted one is remembered')
  await resolve(fifth.effect_id, { resolution: 'not_executed', reason: 'test', fencing_token: fifth.fencing_token })
  tokens.push((await get(fifth.effect_id)).body.fencing_token as number)
  await hold(fresh)
  t.same(
    tokens,
    [...new Set(tokens)].sort((a, b) => a - b),
  )
})

t.test('the first token of an effect stands above the highest time that the process has seen', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { hold } = effectCalls(app)
  await app.moveClock(3600)
  const before = await hold(newEffect())
  await app.moveClock(-3600)
  const after = await hold(newEffect())
  t.ok(after.fencing_token > before.fencing_token, 'a new primary whose clock is behind')
})

t.test("a record's time never runs backwards", async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { hold, release, get } = effectCalls(app)
  await app.moveClock(1000)
  const { held, effect_id } = await hold(newEffect())
  const before = (await get(effect_id)).body
  await app.moveClock(-500)
  await release({ ...held })
  const after = (await get(effect_id)).body
  t.ok(Date.parse(after.updated_at) >= Date.parse(before.updated_at))
  t.equal(Date.parse(after.expires_at) - Date.parse(after.updated_at), 259_200_000)
})

t.test('a claim that comes after its deadline grants nothing', async (t) => {
  const app = await startApp(t)
  const effectId = newId()
  const late = await claimScript(app, effectId, { deadline_us: 1 })
  t.equal(late.status, 'late')
  t.equal((await effectCalls(app).get(effectId)).status, 404)
  const held = await claimScript(app, effectId, {})
  t.equal(held.status, 'claimed')
  t.equal((await claimScript(app, effectId, { deadline_us: 1 })).status, 'late', 'of a known one too')
})

t.test('the gate grants nothing, and tells what would be granted behind what is refused anyway', async (t) => {
  const app = await startApp(t)
  const gate = { gate: true }
  const fresh = newId()
  t.match(await claimScript(app, fresh, {}, gate), { status: 'gated', record: null })
  t.equal((await effectCalls(app).get(fresh)).status, 404, 'untouched')
  t.equal(
    (await claimScript(app, fresh, {}, { ...gate, over_budget: true })).status,
    'over_budget',
    'the budget comes first',
  )
  await claimScript(app, fresh, {})
  t.equal((await claimScript(app, fresh, {}, gate)).status, 'in_progress')
  const free = await effectCalls(app).hold(newEffect())
  await effectCalls(app).release(free.held)
  t.match(await claimScript(app, free.effect_id, {}, gate), {
    status: 'gated',
    record: { state: 'released', attempt: 0 },
  })
  const spent = { ...gate, max_attempts: 0 }
  t.equal((await claimScript(app, free.effect_id, {}, spent)).status, 'gated', 'before the attempts are counted')
  t.equal((await claimScript(app, free.effect_id, {}, { max_attempts: 0 })).status, 'exhausted')
  t.equal((await claimScript(app, free.effect_id, {}, gate)).status, 'failed', 'a settled one is told')
})

t.test('a script that is sent again with the same nonce gives the same grant', async (t) => {
  const app = await startApp(t)
  const effectId = newId()
  const nonce = { claim: 'n'.repeat(22) }
  const first = await claimScript(app, effectId, nonce)
  const again = await claimScript(app, effectId, nonce)
  t.equal(again.status, 'replayed')
  t.same('record' in again && again.record, 'record' in first && first.record)
})

t.test('the same effect read by every script is the same record', async (t) => {
  const app = await startApp(t)
  const { hold, get, fail } = effectCalls(app)
  const wide = { owner: 'é'.repeat(128), metadata: { k: 'ü' }, fingerprint: 'x'.repeat(256), job_type: 'orders' }
  const { effect_id, held, grant } = await hold(
    { type: 'a', entity: 'e'.repeat(1000) + randomUUID().slice(0, 24) },
    wide,
  )
  t.equal(grant.attempt, 1)
  const { body } = await get(effect_id)
  t.match(body, { owner: wide.owner, metadata: wide.metadata, fingerprint: wide.fingerprint, job_type: 'orders' })
  await fail({ ...held, error: { message: 'm', big: 'x'.repeat(10_000) }, execution: 'unknown' })
  t.equal((await get(effect_id)).body.error.big.length, 10_000)
})

t.test('the clock of the tests is the clock of the scripts', async (t) => {
  const app = await startApp(t)
  const before = Number(await redisCli(app.redis.port, 'GET', clockOffsetKey))
  await app.moveClock(5)
  t.equal(Number(await redisCli(app.redis.port, 'GET', clockOffsetKey)), before + 5_000_000)
})

t.test('a completed effect takes at most 1.3 of what its bare result takes', async (t) => {
  const redis = await startRedis(t)
  const { hold, complete } = effectCalls(await startApp(t, { redis, config }))
  const { held, effect_id } = await hold(newEffect(), { fingerprint: 'f'.repeat(64) })
  const result = 'x'.repeat(198)
  await complete({ ...held, result })
  const [key] = await keysOf(redis, `*:effect:${effect_id}`)
  await redisCli(redis.port, 'SET', key!.replace('effect', 'result'), `"${result}"`, 'EX', 1000)
  const bytes = async (name: string) => (await redisCli(redis.port, 'MEMORY', 'USAGE', name)) as number
  const [own, bare] = [await bytes(key!), await bytes(key!.replace('effect', 'result'))]
  t.ok(own <= 1.3 * bare, `${own} to ${bare} bytes`)
})

t.test('what goes from bytes to bytes is what the table writes', async (t) => {
  const { port } = await startRedis(t)
  // Behind every clock, so that nothing vanishes.
  const beginMs = 4_000_000_000_000
  const clockAt = (ms: number) => `local clock = { now_ms = ${ms}, now_us = ${ms}000 }`
  const preludes: Preludes = { ...loadPreludes(), clock: clockAt(beginMs) }
  const byTable = preludes.record!.replace(/= encode_completed\(.*\)/, '= nil')
  t.not(byTable, preludes.record)
  const run = (script: typeof effectClaim | typeof effectComplete, by: Preludes, key: string, args: ClaimValues) =>
    redisCli(port, 'EVAL', scriptText(script, by), 2, key, 'index', ...script.args.map((name) => args[name] ?? ''))
  const claimed = { deadline_us: Number.MAX_SAFE_INTEGER, floor_us: 0, clock_max_us: Number.MAX_SAFE_INTEGER }
  const completed = { token: beginMs * 1000, result: '{"order":1}' }
  const kinds = [{}, { policy: 'reclaim' }, { job_type: 'orders' }, { durability: 'fsynced' }] as const
  const later = [0, 29_999, 30_000, 60_000]
  for (const [kind, given] of [...kinds, { fingerprint: 'h1' }, { metadata: '{"a":1}', entity: '"é"' }].entries()) {
    for (const [index, ms] of later.entries()) {
      const [short, long] = [`short-${kind}-${index}`, `long-${kind}-${index}`]
      const sent = { ...claimed, owner: 'bot-é', claim: 'c'.repeat(22), ...given }
      for (const key of [short, long]) {
        await run(effectClaim, preludes, key, { ...sent, terms: claimTerms({ ...terms, ...given }, unguarded) })
      }
      const reads = `local packed = redis.call('GET', KEYS[1]); return packed == record.encode(record.decode(packed)) and 1`
      t.equal(await redisCli(port, 'EVAL', `${preludes.clock}\n${preludes.record}\n${reads}`, 1, short), 1, 'claimed')
      const then = { ...preludes, clock: clockAt(beginMs + ms) }
      await run(effectComplete, then, short, completed)
      await run(effectComplete, { ...then, record: byTable }, long, completed)
      const same = `return redis.call('GET', KEYS[1]) == redis.call('GET', KEYS[2]) and 1`
      t.equal(await redisCli(port, 'EVAL', same, 2, short, long), 1, `completed after ${ms} ms`)
      const until = await redisCli(port, 'PEXPIRETIME', long)
      t.equal(until, beginMs + ms + terms.retention_ms)
      t.equal(await redisCli(port, 'PEXPIRETIME', short), until)
    }
  }
  t.equal(await redisCli(port, 'EXISTS', 'index'), 0)
})

t.test('a record of another version is our own mistake, and is not guessed at', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis, config })
  const { hold, claim } = effectCalls(app)
  const effect = newEffect()
  const { effect_id } = await hold(effect)
  const [key] = await keysOf(redis, `*:effect:${effect_id}`)
  await redisCli(redis.port, 'SETRANGE', key!, 0, '\u0001')
  t.match(await claim(effect), { status: 500, body: { code: 'internal' } })
  t.equal(await redisCli(redis.port, 'GETRANGE', key!, 0, 0), '\u0001', 'and stays as it is')
})
