/**
 * The server that answers changes: what was acknowledged may be lost, so an effect that is absent is not granted until it
 * cannot be held by anybody. Each kind of change on real servers, with every durability.
 */
import t, { type Test } from 'tap'
import { createKeys } from '../../src/redis/keys.ts'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { type RedisOptions, redisCli, type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'
import { startSwitchboard } from '../helpers/switchboard.ts'

const always = ['--appendonly', 'yes', '--appendfsync', 'always']
const everysec = ['--appendonly', 'yes', '--appendfsync', 'everysec']

const witnessKey = createKeys('idempotency').witness(undefined)

/** `ledger_write` is on disk, `pnl_write` on one replica. */
const config = (graceSeconds = 60) =>
  JSON.stringify({
    redis: { failover_grace_seconds: graceSeconds },
    effects: { types: { ledger_write: { durability: 'fsynced' }, pnl_write: { durability: { replicated: 1 } } } },
  })

type Scene = TestApp & ReturnType<typeof effectCalls>

async function serve(t: Test, redis: RedisServer, redisUrl = redis.url, graceSeconds = 60): Promise<Scene> {
  const app = patient(await startApp(t, { redis, redisUrl, config: config(graceSeconds), background: true }))
  return { ...app, ...effectCalls(app) }
}

const told = ({ events }: TestApp, name: string) => events.filter(({ event }) => event === name)

/** That a claim is refused because the effect may have been granted before. */
async function refused(t: Test, { claim }: Scene, members: Record<string, unknown> = {}): Promise<void> {
  const answer = await claim({ ...newEffect(), ...members })
  t.match(answer, { status: 503, body: { code: 'store-unavailable', reason: 'failing_over' } }, JSON.stringify(members))
  t.ok(Number(answer.headers['retry-after']) >= 1, 'with Retry-After')
}

async function granted(t: Test, { claim }: Scene, members: Record<string, unknown> = {}): Promise<void> {
  t.match(await claim({ ...newEffect(), ...members }), { status: 201 }, JSON.stringify(members))
}

/** Until the service has met the server that answers now: what may run twice is always granted. */
const metAgain = ({ claim }: Scene) =>
  waitFor(async () => (await claim(newEffect('signal_consumption'))).status === 201, 20_000)

/** Until it has run for so long that it cannot be taken for a primary that has restarted. */
const wellKnown = ({ port }: RedisServer) =>
  waitFor(
    async () => Number(/uptime_in_seconds:(\d+)/.exec(String(await redisCli(port, 'INFO', 'server')))![1]) > 6,
    20_000,
  )

/** A primary and a replica that follows it, behind one address. */
async function pair(t: Test, options: RedisOptions = {}) {
  const primary = await startRedis(t, options)
  const replica = await startRedis(t, {
    args: ['--replicaof', '127.0.0.1', String(primary.port), ...(options.args ?? [])],
  })
  await redisCli(primary.port, 'CONFIG', 'SET', 'repl-diskless-sync-delay', 0)
  await waitFor(async () => /state=online/.test(String(await redisCli(primary.port, 'INFO', 'replication'))), 20_000)
  return { primary, replica, board: await startSwitchboard(t, primary.port) }
}

t.test('restarted with everything on disk: it serves at once', async (t) => {
  const redis = await startRedis(t, { args: always })
  const at = await serve(t, redis)
  const effect = newEffect()
  const { held } = await at.hold(effect)
  await waitFor(async () => (await redisCli(redis.port, 'HGET', witnessKey, 'always')) === '1')
  await redis.kill('SIGKILL')
  await redis.restart()
  await metAgain(at)
  await granted(t, at)
  t.equal((await at.complete({ ...held, result: 1 })).status, 200)
  await waitFor(() => told(at, 'store.changed').length > 0)
  t.match(told(at, 'store.changed'), [{ change: 'kept', changed_at: /^20/ }])
  t.equal(told(at, 'store.reset').length, 0)
})

t.test('restarted with its last writes perhaps not on disk', async (t) => {
  const redis = await startRedis(t, { args: everysec })
  const cli = (...args: string[]) => redisCli(redis.port, ...args)
  await cli('CONFIG', 'SET', 'appendfsync', 'always')
  const at = await serve(t, redis)
  const effect = newEffect()
  const { held } = await at.hold(effect)
  const onDisk = await at.hold(newEffect('ledger_write'))
  await cli('CONFIG', 'SET', 'appendfsync', 'everysec')
  await waitFor(async () => (await cli('HGET', witnessKey, 'always')) === '0', 5000)
  await redis.kill('SIGKILL')
  await redis.restart()
  await metAgain(at)
  await refused(t, at)
  await refused(t, at, { result: { done: true } })
  await refused(t, at, { type: 'signal_consumption', on_lease_expiry: 'hold' })
  t.equal((await at.claim(effect)).body.code, 'effect-in-progress', 'what exists is served')
  t.equal((await at.complete({ ...held, result: 1 })).status, 200)
  await granted(t, at, newEffect('signal_consumption'))
  await cli('CONFIG', 'SET', 'appendfsync', 'always')
  await granted(t, at, newEffect('ledger_write'))
  t.equal((await at.complete(onDisk.held)).status, 200)
  t.match(told(at, 'store.changed'), [{ change: 'restarted' }], 'told once')
  const late = await serve(t, redis)
  await refused(t, late)
  t.equal(told(late, 'store.changed').length, 0, 'a process that starts later knows it, and does not tell it again')
  t.match(await late.claim(effect), { status: 200 })
})

t.test('the grace period ends by itself, and 0 means that there is none', async (t) => {
  const redis = await startRedis(t, { args: everysec })
  const short = await serve(t, redis, redis.url, 8)
  const none = await serve(t, redis, redis.url, 0)
  await short.hold(newEffect())
  await granted(t, none)
  await redis.kill('SIGKILL')
  await redis.restart()
  await Promise.all([metAgain(short), metAgain(none)])
  await refused(t, short)
  await granted(t, none)
  await waitFor(async () => (await short.claim(newEffect())).status === 201, 20_000)
  const changes = [...told(short, 'store.changed'), ...told(none, 'store.changed')]
  t.equal(changes.length, 1, 'the event is told by whoever saw it first')
})

t.test('a replica that lags is promoted: its absent effects are not granted', async (t) => {
  const { primary, replica, board } = await pair(t)
  const at = await serve(t, primary, board.url)
  const kept = await at.hold(newEffect())
  await waitFor(async () => (await redisCli(replica.port, 'KEYS', `*${kept.effect_id}`)) as string[])
  // Its link to the primary is cut; the primary goes on.
  await redisCli(replica.port, 'REPLICAOF', '127.0.0.1', 1)
  const lost = newEffect()
  const { held } = await at.hold(lost)
  // A change that nobody could judge, two minutes ago: it says nothing about the next one.
  const [seconds] = (await redisCli(replica.port, 'TIME')) as string[]
  await redisCli(primary.port, 'HSET', witnessKey, 'unknown_us', (Number(seconds) - 120) * 1_000_000)
  await wellKnown(replica)
  await primary.kill('SIGKILL')
  await redisCli(replica.port, 'REPLICAOF', 'NO', 'ONE')
  board.lead(replica.port)
  await metAgain(at)
  await refused(t, at, lost)
  await refused(t, at)
  // Its only replica had every claim that was acknowledged; now it has none itself.
  t.equal((await at.claim(newEffect('pnl_write'))).body.code, 'durability-not-reached')
  t.match(await at.complete({ ...kept.held, result: 1 }), { status: 200 })
  t.ok(told(at, 'store.changed').length === 1)
  const next = await at.claim({ ...newEffect('signal_consumption') })
  t.ok(next.body.fencing_token > held.fencing_token, 'tokens keep rising')
})

t.test('a replica that took over need not be the one that had the write', async (t) => {
  const { primary, replica, board } = await pair(t)
  const at = await serve(t, primary, board.url)
  await at.hold(newEffect('pnl_write'))
  // As it would be with a second one.
  await redisCli(primary.port, 'HSET', witnessKey, 'replicas', 2)
  const offset = async (port: number) =>
    /master_repl_offset:(\d+)/.exec(String(await redisCli(port, 'INFO', 'replication')))![1]
  await waitFor(async () => (await offset(primary.port)) === (await offset(replica.port)), 20_000)
  await wellKnown(replica)
  await primary.kill('SIGKILL')
  await redisCli(replica.port, 'REPLICAOF', 'NO', 'ONE')
  board.lead(replica.port)
  await waitFor(() => told(at, 'store.changed').length > 0, 20_000)
  t.match(told(at, 'store.changed'), [{ change: 'promoted' }])
  await refused(t, at, newEffect('pnl_write'))
})

t.test('a store that came back empty grants nothing new until an operator has looked', async (t) => {
  const redis = await startRedis(t)
  const [at, other] = [await serve(t, redis), await serve(t, redis)]
  await at.hold(newEffect())
  await other.hold(newEffect())
  await redis.kill('SIGKILL')
  await redis.restart()
  await Promise.all([metAgain(at), metAgain(other)])
  await refused(t, at)
  await refused(t, other)
  await granted(t, at, newEffect('signal_consumption'))
  const all = [...told(at, 'store.reset'), ...told(other, 'store.reset')]
  t.match(all, [{ acknowledge_needed: true, changed_at: /^20/ }], 'told once')
  const late = await serve(t, redis)
  await refused(t, late)
  await refused(t, late, { result: 1 })

  const { body } = await at.call('GET', '/api/v1/system')
  t.match(body.store, { change: 'reset', grace_until: null, acknowledge_needed: true, remedy: /store\/acknowledge/ })
  t.match(body.store.reset_at, /^20/)
  const reason = { reason: 'orders were compared', user: 'alice' }
  const done = await at.call('POST', '/api/v1/store/acknowledge', reason)
  t.match(done, { status: 200, body: { reset_at: null, acknowledge_needed: false, remedy: null } })
  await granted(t, at)
  for (const process of [other, late])
    await waitFor(async () => (await process.claim(newEffect())).status === 201, 3000)
  const { entries } = (await at.call('GET', '/api/v1/audit?action=store.acknowledge')).body
  t.match(entries, [{ subject: 'store', user: 'alice', reason: reason.reason, after: { reset_at: null } }])
  t.equal((await at.call('POST', '/api/v1/store/acknowledge', reason)).status, 200, 'again, and nothing changes')
  t.equal((await at.call('POST', '/api/v1/store/acknowledge', { reason: 'x' })).status, 400)

  await redis.kill('SIGKILL')
  await redis.restart()
  await metAgain(other)
  await refused(t, other)
  t.equal(told(at, 'store.reset').length + told(other, 'store.reset').length + told(late, 'store.reset').length, 2)
})

t.test('a process that starts first on the empty store does not hide what another one knew', async (t) => {
  const redis = await startRedis(t)
  const board = await startSwitchboard(t, redis.port)
  const at = await serve(t, redis, board.url)
  await at.hold(newEffect())
  board.lead(1)
  await redis.stop()
  await redis.restart()
  const first = await serve(t, redis)
  await granted(t, first)
  t.equal(told(first, 'store.reset').length, 0, 'to it this is a first start')
  board.lead(redis.port)
  await waitFor(() => told(at, 'store.reset').length === 1, 20_000)
  await refused(t, at)
  await waitFor(async () => (await first.claim(newEffect())).status === 503, 5000)
  t.equal(told(first, 'store.reset').length, 0, 'told once')
})

t.test('emptied while it runs: told, and served', async (t) => {
  const redis = await startRedis(t)
  const [at, other] = [await serve(t, redis), await serve(t, redis)]
  await Promise.all([at.hold(newEffect()), other.hold(newEffect())])
  await redisCli(redis.port, 'FLUSHALL')
  const resets = () => [...told(at, 'store.reset'), ...told(other, 'store.reset')]
  await waitFor(() => resets().length > 0, 10_000)
  await granted(t, at)
  await granted(t, other)
  t.match(resets(), [{ acknowledge_needed: false }], 'told once')
  t.match((await at.call('GET', '/api/v1/system')).body.store, { reset_at: null, acknowledge_needed: false })
})

t.test('nothing is refused where the grace period is 0, not even on an empty store', async (t) => {
  const redis = await startRedis(t)
  const at = await serve(t, redis, redis.url, 0)
  await at.hold(newEffect())
  await redis.kill('SIGKILL')
  await redis.restart()
  await metAgain(at)
  await waitFor(async () => (await at.claim(newEffect())).status === 201, 5000)
  t.match(told(at, 'store.reset'), [{ acknowledge_needed: false }])
  t.match((await at.call('GET', '/api/v1/system')).body.store, { reset_at: /^20/, acknowledge_needed: false })
})
