/**
 * A replica that lags is promoted: grants that were acknowledged are gone. Whoever holds one still reports what happened,
 * and the store takes it up; nothing that was settled meanwhile is changed.
 */
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { redisCli, type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'
import { startSwitchboard } from '../helpers/switchboard.ts'

type Scene = TestApp & ReturnType<typeof effectCalls>
type Held = { effect_id: string; fencing_token: number; reference: string }

/** It surely was not executed. */
const banned = { exchange: 'binance', code: -1003, message: 'Too many requests.' }

const config = 'redis: { failover_grace_seconds: 60 }'

/** A service on a primary with a replica, behind one address. */
async function pair(t: Test) {
  const primary = await startRedis(t)
  const replica = await startRedis(t, { args: ['--replicaof', '127.0.0.1', String(primary.port)] })
  await redisCli(primary.port, 'CONFIG', 'SET', 'repl-diskless-sync-delay', 0)
  await waitFor(async () => /state=online/.test(String(await redisCli(primary.port, 'INFO', 'replication'))), 20_000)
  const board = await startSwitchboard(t, primary.port)
  const app = patient(await startApp(t, { redis: primary, redisUrl: board.url, config }))
  const at: Scene = { ...app, ...effectCalls(app) }
  return {
    at,
    /** From now on the replica learns nothing more. */
    async part(): Promise<void> {
      const offset = async (port: number) =>
        /master_repl_offset:(\d+)/.exec(String(await redisCli(port, 'INFO', 'replication')))![1]
      await waitFor(async () => (await offset(primary.port)) === (await offset(replica.port)), 20_000)
      await redisCli(replica.port, 'REPLICAOF', '127.0.0.1', 1)
    },
    /** The primary is lost, the replica takes its place, and the service has met it. */
    async promote(): Promise<RedisServer> {
      await primary.kill('SIGKILL')
      await redisCli(replica.port, 'REPLICAOF', 'NO', 'ONE')
      board.lead(replica.port)
      await waitFor(() => at.events.some(({ event }) => event === 'store.changed'), 20_000)
      return replica
    },
  }
}

/** Claims, and gives what a holder knows. */
async function hold(at: Scene, effect: Record<string, unknown>): Promise<Held> {
  const { grant, held } = await at.hold(effect)
  return { ...held, reference: grant.reference }
}

const told = ({ events }: TestApp, name: string, { effect_id }: { effect_id: string }) =>
  events.filter((event) => event.event === name && 'effect_id' in event && event.effect_id === effect_id)

t.test('without a record: each report takes the grant up, once', async (t) => {
  const { at, part, promote } = await pair(t)
  await hold(at, newEffect())
  await part()
  const effects = [newEffect(), newEffect(), newEffect(), newEffect(), newEffect(), newEffect()] as const
  const grants = await Promise.all(effects.map((effect) => hold(at, effect)))
  const [done, doubtful, renewed, refused, released, nobody] = grants as [Held, Held, Held, Held, Held, Held]
  await promote()

  const { reference: _, ...without } = done
  t.match(await at.complete({ ...without, result: 1 }), { status: 404 }, 'a token alone shows nothing')
  t.equal((await at.complete({ ...done, reference: doubtful.reference, result: 1 })).status, 404)
  const completed = await at.complete({ ...done, result: { order: 1 } })
  t.match(completed, { status: 200, body: { outcome: 'completed', attempt: 1, recovered: true } })
  t.match(await at.complete({ ...done, result: { order: 1 } }), {
    ...{ status: 200, body: { recovered: true, replayed: true, completed_at: completed.body.completed_at } },
  })
  t.equal((await at.complete({ ...done, result: 2 })).body.code, 'result-conflict')
  t.match(await at.claim(effects[0]), { status: 200, body: { outcome: 'completed', result: { order: 1 } } })
  t.match(told(at, 'effect.record_recovered', done), [{ call: 'complete', fencing_token: done.fencing_token }])

  const failed = await at.fail({ ...doubtful, type: undefined, error: 'timeout', execution: 'unknown' })
  t.match(failed, {
    status: 200,
    body: { outcome: 'uncertain', recovered: true, retry: { reason: 'reconcile_first' } },
  })
  t.match((await at.fail({ ...doubtful, error: 'timeout', execution: 'unknown' })).body, { replayed: true })
  const record = (await at.get(doubtful.effect_id)).body
  t.match(record, { state: 'uncertain', owner: null, attempt: 1, job_type: null, on_lease_expiry: 'hold' })
  t.match(record.history, [{ step: 'recovered', by: 'anonymous', detail: 'fail' }, { step: 'uncertain' }])

  const { type, entity } = effects[2]
  const { effect_id: __, ...named } = renewed
  t.match(await at.renew({ type, entity, ...named, lease_seconds: 5 }), { status: 200, body: { recovered: true } })
  t.match((await at.get(renewed.effect_id)).body, {
    state: 'in_progress',
    entity,
    fencing_token: renewed.fencing_token,
  })
  t.equal((await at.claim(effects[2])).body.code, 'effect-in-progress', 'it is held again')
  const plain = await at.renew(renewed)
  t.equal(plain.status, 200)
  t.notOk('recovered' in plain.body)
  t.equal((await at.complete({ ...renewed, result: 3 })).status, 200)

  t.equal((await at.fail({ ...refused, error: 'no funds', execution: 'no' })).status, 404, 'nothing is to be recorded')
  t.equal((await at.fail({ ...refused, error: banned })).status, 404, 'nor by the classification')
  const { reference: ___, ...unused } = released
  t.equal((await at.release(unused)).status, 404)
  t.equal((await at.claim(effects[5])).status, 503, 'what nobody has reported is not granted')
  const future = { ...nobody, fencing_token: nobody.fencing_token + 3_600_000_000 }
  t.match(await at.complete({ ...future, result: 1 }), { status: 400, body: { code: 'invalid-request' } })
  const after = { ...nobody, fencing_token: at.services.store.witnesses()[0]!.changedUs() + 1 }
  t.equal((await at.complete({ ...after, result: 1 })).status, 404, 'a token from after the change')
})

t.test('with an older record: the newer grant is taken up, and the older holder is stale', async (t) => {
  const { at, part, promote } = await pair(t)
  const effects = Array.from({ length: 3 }, () => newEffect('signal_consumption'))
  const before = await Promise.all(effects.map((effect) => hold(at, effect)))
  await part()
  await at.moveClock(31)
  const lost = await Promise.all(effects.map((effect) => hold(at, effect)))
  const server = await promote()
  await redisCli(server.port, 'SET', 'test:clock_offset_us', 31_000_000)
  t.match(await at.complete({ ...lost[0], result: 1 }), { status: 200, body: { recovered: true, attempt: 2 } })
  t.match(await at.complete({ ...before[0], result: 2 }), { status: 409, body: { code: 'stale-token' } })
  t.match(await at.fail({ ...lost[1], error: 'x', execution: 'unknown' }), {
    body: { outcome: 'uncertain', attempt: 2 },
  })
  t.match(await at.renew(lost[2]!), { status: 200, body: { recovered: true } })
  t.match((await at.renew(before[2]!)).body, { code: 'stale-token' })
})

t.test('a grant that is taken up makes nothing of an earlier claim that has ended', async (t) => {
  const { at, part, promote } = await pair(t)
  const [effect, claim_id] = [newEffect(), randomUUID()]
  const first = await at.hold({ ...effect, claim_id })
  t.equal((await at.release(first.held)).status, 200)
  await part()
  const lost = await hold(at, effect)
  await promote()
  t.match(await at.renew(lost), { status: 200, body: { recovered: true } })
  t.equal((await at.complete({ ...lost, result: 1 })).status, 200)
  t.match(await at.claim({ ...effect, claim_id }), { status: 409, body: { code: 'claim-ended' } })
  t.match(await at.claim({ ...effect, claim_id, result: 2 }), { status: 409, body: { code: 'claim-ended' } })
  t.match(await at.claim(effect), { status: 200, body: { outcome: 'completed', result: 1 } })
})

t.test('against a record that has settled otherwise: a suspected double execution', async (t) => {
  const { at, part, promote } = await pair(t)
  const kinds = ['complete', 'fail', 'renew'] as const
  const completed = kinds.map(() => newEffect('signal_consumption'))
  const failed = kinds.map(() => newEffect('signal_consumption'))
  const firsts = await Promise.all([...completed, ...failed].map((effect) => hold(at, effect)))
  await part()
  await at.moveClock(31)
  const lost = await Promise.all([...completed, ...failed].map((effect) => hold(at, effect)))
  await promote()
  for (const held of firsts.slice(0, 3)) t.equal((await at.complete({ ...held, result: 'first' })).status, 200)
  for (const held of firsts.slice(3)) {
    const report = { error: 'rejected', execution: 'no', retryable: false }
    t.equal((await at.fail({ ...held, ...report })).body.outcome, 'failed')
  }
  const calls = {
    complete: (held: Held) => at.complete({ ...held, result: 'first' }),
    fail: (held: Held) => at.fail({ ...held, error: 'timeout', execution: 'unknown' }),
    renew: (held: Held) => at.renew(held),
  }
  for (const [index, held] of lost.entries()) {
    const kind = kinds[index % 3]!
    const code = index < 3 ? 'result-conflict' : 'already-settled'
    t.match(await calls[kind](held), { status: 409, body: { code } }, `${kind}: ${code}`)
    t.match(told(at, 'effect.late_completion', held), [{ call: kind, fencing_token: held.fencing_token }])
  }
  t.match(await at.claim(completed[0]!), { status: 200, body: { result: 'first' } }, 'the result stays')
  const { entries } = (await at.call('GET', '/api/v1/audit?action=effect.late_completion')).body
  t.equal(entries.length, 6)
})

t.test('a remembered token is asked first', async (t) => {
  const { at, part, promote } = await pair(t)
  const effect = newEffect()
  const older = await hold(at, effect)
  await at.complete({ ...older, result: 1 })
  await at.remove(older.effect_id)
  await part()
  const lost = await hold(at, effect)
  await promote()
  t.match(await at.complete({ ...older, result: 1 }), { status: 409, body: { code: 'stale-token' } })
  t.equal((await at.claim(effect)).status, 503, 'a deleted effect is absent')
  t.match(await at.complete({ ...lost, result: 2 }), { status: 200, body: { recovered: true } })
})

t.test('the clock of the new primary is behind: tokens rise, and what was lost is still taken up', async (t) => {
  const { at, part, promote } = await pair(t)
  await at.moveClock(10)
  const known = newEffect('signal_consumption')
  const before = await hold(at, known)
  await part()
  const lost = await hold(at, newEffect())
  const server = await promote()
  await redisCli(server.port, 'SET', 'test:clock_offset_us', 0)
  t.match(await at.complete({ ...lost, result: 1 }), { status: 200, body: { recovered: true } })
  const next = await hold(at, newEffect('signal_consumption'))
  t.ok(next.fencing_token > lost.fencing_token)
  // A process that has seen nothing of the old clock knows of it by the record.
  const fresh = patient(await startApp(t, { redis: server, config }))
  const calls = effectCalls(fresh)
  const other = await calls.hold(newEffect('signal_consumption'))
  t.ok(other.fencing_token > lost.fencing_token, 'in every process')
  t.equal((await at.complete({ ...before, result: 1 })).status, 200)
})
