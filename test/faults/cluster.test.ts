/** In a Cluster: every script on one slot, one shard's trouble is its own, slots move under claims without a double grant. */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { identify } from '../../src/effects/identity.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { newEffect, passing } from '../helpers/effects.ts'
import { type ClusterNode, slotOf, startCluster } from '../helpers/redis-cluster.ts'
import { waitFor } from '../helpers/redis-server.ts'
import { type Effect, effectsOf, effectsWhere, recordKey, slotOfEffect } from '../helpers/slots.ts'
import { inTime, journey, recovered, refused, type Scene, startScene } from '../helpers/store-scene.ts'

const config = 'redis: { failover_grace_seconds: 0 }'
const keys = createKeys('idempotency')

async function scene(
  t: Test,
  options: Parameters<typeof startCluster>[1] = {},
  further: { background?: boolean } = {},
) {
  const cluster = await startCluster(t, options)
  const at = await startScene(t, { place: cluster.place, config, ...further })
  for (const node of cluster.primaries) await recovered(t, at, () => effectsOf(cluster, node, 1)[0]!)
  return { cluster, at }
}

t.test('everything works by configuration alone, from any one of its nodes', async (t) => {
  const cluster = await startCluster(t)
  const [one] = cluster.place.cluster.slice(-1) as [{ host: string; port: number }]
  await journey(t, await startScene(t, { place: { cluster: [one] }, config, background: true }))
})

t.test('one bad call among many fails alone, and no script crosses slots', async (t) => {
  const { cluster, at } = await scene(t, { replicas: 0 })
  const effects = Array.from({ length: 200 }, () => newEffect())
  const bad = newEffect()
  const key = recordKey(bad)
  const owner = await cluster.ownerOf(slotOf(key))
  await owner.cli('HSET', key, 'a', 'b')
  const [spoilt, ...others] = await Promise.all([at.claim(bad), ...effects.map((effect) => at.claim(effect))])
  t.equal(spoilt.status, 500)
  t.ok(
    others.every(({ status }) => status === 201),
    'its neighbours are granted',
  )
  const errors = await Promise.all(cluster.nodes.map(({ cli }) => cli('INFO', 'errorstats')))
  for (const told of errors) t.notMatch(String(told), /CROSSSLOT/)
})

type Place = Awaited<ReturnType<typeof scene>>

/** One shard hangs, and serves again. */
async function hangs(
  t: Test,
  { cluster, at }: Place,
  hung: ClusterNode,
  meanwhile?: (t: Test) => Promise<void>,
): Promise<void> {
  const others = cluster.primaries.filter((node) => node !== hung)
  const stuck = effectsOf(cluster, hung, 6)
  const free = others.flatMap((node) => effectsOf(cluster, node, 6))
  await hung.kill('SIGSTOP')
  const waiting = stuck.map((effect) => refused(t, at.claim(effect), 'outcome_unknown'))
  for (const effect of free) t.equal((await inTime(t, at.claim({ ...effect, lease_seconds: 0.1 }))).status, 201)
  await Promise.all(waiting)
  const silent = new Set(free.map(({ type, entity }) => identify(type, entity).effectId))
  const uncertain = () => at.events.filter(({ event }) => event === 'effect.uncertain')
  const noticed = () =>
    uncertain().filter((event) => 'effect_id' in event && silent.has(String(event.effect_id))).length
  await waitFor(() => noticed() === free.length, 20_000)
  await meanwhile?.(t)
  await hung.kill('SIGCONT')
  await recovered(t, at, () => stuck[0]!)
  for (const effect of stuck.slice(1)) t.equal((await inTime(t, at.claim(effect))).status, 201, 'nobody holds it')
}

/** Effects of a healthy shard, held before: which calls about them do not go without what else the namespace has. */
async function missesTheRest({ cluster, at }: Place, healthy: ClusterNode): Promise<(t: Test) => Promise<void>> {
  const job = { job_type: 'of-the-shard' }
  const [one, other, another] = effectsOf(cluster, healthy, 3).map((effect) => ({ ...effect, ...job }))
  const [{ held }, completing] = [await at.hold(one!), await at.hold(other!)]
  const needIt = () => [
    ...[at.claim(another!), at.fail({ ...held, ...passing }), at.remove(held.effect_id)],
    ...[at.resolve(held.effect_id, { resolution: 'executed', reason: 'a test' }), at.call('GET', '/api/v1/audit')],
  ]
  return async (t) => {
    await Promise.all(needIt().map((call) => refused(t, call, 'failing_over')))
    t.equal((await inTime(t, at.renew(completing.held))).status, 200)
    t.equal((await inTime(t, at.complete({ ...completing.held, result: 1 }))).status, 200)
  }
}

t.test('a hung shard: its calls end in time, the others never notice', async (t) => {
  const place = await scene(t, { replicas: 0, nodeTimeoutMs: 30_000 }, { background: true })
  const shard = await place.cluster.ownerOf(slotOf(keys.sweepLease('default')))
  const another = place.cluster.primaries.find((node) => node !== shard)!
  const misses = await missesTheRest(place, another)
  await t.test('the one with the rest of the namespace', (t) => hangs(t, place, shard, misses))
  await t.test('another one', (t) => hangs(t, place, another))
})

t.test('a primary that is killed: 503 in time, granted again without help, tokens rise', async (t) => {
  const { cluster, at } = await scene(t)
  const [primary] = cluster.primaries as [ClusterNode]
  const effects = effectsOf(cluster, primary, 6)
  const before = await Promise.all(effects.map((effect) => at.hold(effect)))
  t.equal(await primary.cli('WAIT', 1, 5000), 1)
  await primary.kill('SIGKILL')
  const another = { ...effects[0]!, claim_id: randomUUID(), owner: 'another' }
  const first = await inTime(t, at.claim(another))
  t.match(first, { status: 503, body: { reason: /^(failing_over|unavailable|outcome_unknown)$/ } })
  await refused(t, at.claim(another), 'failing_over')
  await waitFor(async () => (await inTime(t, at.claim(another))).status === 409, 20_000)
  for (const [index, { held, fencing_token }] of before.entries()) {
    t.equal((await at.release(held)).status, 200)
    t.ok((await at.hold(effects[index]!)).fencing_token > fencing_token)
  }
})

t.test('a primary that becomes a replica is left at once', async (t) => {
  const { cluster, at } = await scene(t)
  const [primary] = cluster.primaries as [ClusterNode]
  const [effect, other] = effectsOf(cluster, primary, 2) as [Effect, Effect]
  const { held } = await at.hold(effect)
  await cluster.promote(cluster.replicaOf(primary))
  t.equal((await inTime(t, at.complete({ ...held, result: 1 }))).status, 200, 'MOVED is followed')
  t.equal((await inTime(t, at.claim(other))).status, 201)
})

t.test('a slot moves while it is claimed: never a double grant, and all is served afterwards', async (t) => {
  const { cluster, at } = await scene(t, { replicas: 0 })
  const other = await startScene(t, { place: cluster.place, config })
  const [from, to] = cluster.primaries as [ClusterNode, ClusterNode]
  const [first] = effectsOf(cluster, from, 1) as [Effect]
  const slot = slotOfEffect(first)
  const inSlot = effectsWhere(12, (other) => other === slot)
  const granted = new Map<string, Set<number>>()
  const reasons = new Set<string>()
  let moving = true
  /** Claims one effect after the other, and completes what it was granted. */
  const worker = async ({ claim, complete }: Scene, name: string): Promise<void> => {
    for (let turn = 0; moving || turn < inSlot.length; turn++) {
      const effect = inSlot[turn % inSlot.length]!
      const { status, body } = await inTime(t, claim({ ...effect, owner: name, claim_id: randomUUID() }))
      if (status === 503) reasons.add(body.reason)
      if (status !== 201) continue
      const tokens = granted.get(effect.entity) ?? new Set()
      granted.set(effect.entity, tokens.add(body.fencing_token))
      const report = { ...effect, fencing_token: body.fencing_token }
      await waitFor(async () => (await inTime(t, complete(report))).status === 200, 20_000)
    }
  }
  const workers = [worker(at, 'a'), worker(at, 'b'), worker(other, 'c'), worker(other, 'd')]
  await cluster.beginMove(slot, to)
  await waitFor(() => granted.size + reasons.size > 0, 20_000)
  await cluster.moveKeys(slot, to, 3)
  await cluster.moveKeys(slot, to)
  await cluster.endMove(slot, to)
  moving = false
  await Promise.all(workers)
  t.equal(granted.size, inSlot.length, 'all were granted in the end')
  for (const tokens of granted.values()) t.equal(tokens.size, 1, 'each once')
  for (const reason of reasons) t.match(reason, /^(resharding|failing_over)$/)
  t.ok(Number(await to.cli('CLUSTER', 'COUNTKEYSINSLOT', slot)) >= inSlot.length, 'where the slot is now')
})

t.test('a slot that stays half moved: what is whole at one place is served, what is not is told of', async (t) => {
  const { cluster, at } = await scene(t, { replicas: 0 })
  const [from, to] = cluster.primaries as [ClusterNode, ClusterNode]
  const [effect] = effectsOf(cluster, from, 1) as [Effect]
  const slot = slotOfEffect(effect)
  const { held } = await at.hold(effect)
  await cluster.beginMove(slot, to)
  await from.cli('MIGRATE', '127.0.0.1', to.port, recordKey(effect), 0, 5000)
  await refused(t, at.complete({ ...held, result: 1 }), 'resharding')
  await cluster.moveKeys(slot, to)
  t.equal((await inTime(t, at.complete({ ...held, result: 1 }))).status, 200, 'ASK is followed')
  await cluster.endMove(slot, to)
  await recovered(t, at, () => effectsWhere(1, (other) => other === slot)[0]!)
})

t.test('without a majority nothing is granted after the node time-out', async (t) => {
  const { cluster, at } = await scene(t, { replicas: 0, nodeTimeoutMs: 1000 })
  const [alone, ...others] = cluster.primaries as [ClusterNode, ...ClusterNode[]]
  const effects = effectsOf(cluster, alone, 3)
  for (const node of others) await node.kill('SIGSTOP')
  await waitFor(
    async () => (await inTime(t, at.claim({ ...effects[0]!, claim_id: randomUUID() }))).body.reason === 'failing_over',
    20_000,
  )
  await refused(t, at.claim(effects[1]!), 'failing_over')
  for (const node of others) await node.kill('SIGCONT')
  await recovered(t, at, () => effects[2]!)
})
