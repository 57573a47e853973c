/** In a Cluster a change concerns the effects of one shard only, and a slot that moves is no change. */
import t, { type Test } from 'tap'
import { createKeys } from '../../src/redis/keys.ts'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { type ClusterNode, type RedisCluster, startCluster } from '../helpers/redis-cluster.ts'
import { redisCli, waitFor } from '../helpers/redis-server.ts'
import { effectOf } from '../helpers/slots.ts'

type Scene = TestApp & ReturnType<typeof effectCalls>

const keys = createKeys('idempotency')

async function serve(t: Test, { place }: RedisCluster): Promise<Scene> {
  const app = patient(await startApp(t, { place, background: true }))
  await waitFor(() => app.services.store.witnesses().length > 0, 20_000)
  return { ...app, ...effectCalls(app) }
}

const told = ({ events }: TestApp, name: string) => events.filter(({ event }) => event === name)
const refused = { status: 503, body: { code: 'store-unavailable', reason: 'failing_over' } }

t.test('a primary is lost: its shard refuses what is absent, the others serve', async (t) => {
  const cluster = await startCluster(t)
  const at = await serve(t, cluster)
  for (const primary of cluster.primaries) await at.hold(effectOf(cluster, primary))
  const [lost, ...others] = cluster.primaries as [ClusterNode, ...ClusterNode[]]
  const kept = await at.hold(effectOf(cluster, lost))
  const heir = cluster.replicaOf(lost)
  await waitFor(async () => String(await redisCli(heir.port, 'CLUSTER', 'COUNTKEYSINSLOT', 0)) !== '0', 10_000)
  await lost.kill('SIGKILL')
  await waitFor(() => told(at, 'store.changed').length > 0, 30_000)
  t.match(told(at, 'store.changed'), [{ node: `127.0.0.1:${heir.port}` }], 'told once, of the replica')
  t.match(await at.claim(effectOf(cluster, lost)), refused)
  t.match(await at.claim(effectOf(cluster, lost, 'signal_consumption')), { status: 201 })
  for (const other of others) t.match(await at.claim(effectOf(cluster, other)), { status: 201 })
  t.equal((await at.complete({ ...kept.held, result: 1 })).status, 200)
  const late = await serve(t, cluster)
  t.match(await late.claim(effectOf(cluster, lost)), refused, 'a process that starts later knows it')
  t.equal(told(late, 'store.changed').length, 0)
})

t.test('a shard that comes back empty waits for an operator', async (t) => {
  const cluster = await startCluster(t, { replicas: 0, nodeTimeoutMs: 30_000 })
  const at = await serve(t, cluster)
  for (const primary of cluster.primaries) await at.hold(effectOf(cluster, primary))
  const [empty, ...others] = cluster.primaries as [ClusterNode, ...ClusterNode[]]
  await empty.kill('SIGKILL')
  await empty.restart()
  await waitFor(() => told(at, 'store.reset').length > 0, 30_000)
  t.match(told(at, 'store.reset'), [{ node: `127.0.0.1:${empty.port}`, acknowledge_needed: true }])
  t.match(await at.claim(effectOf(cluster, empty)), refused)
  for (const other of others) t.match(await at.claim(effectOf(cluster, other)), { status: 201 })
  t.match((await at.call('GET', '/api/v1/system')).body.store, { change: 'reset', acknowledge_needed: true })
  const done = await at.call('POST', '/api/v1/store/acknowledge', { reason: 'compared with the exchange' })
  t.match(done, { status: 200, body: { acknowledge_needed: false } })
  t.match(await at.claim(effectOf(cluster, empty)), { status: 201 })
})

t.test('the first slot of a primary moves: nothing has changed', async (t) => {
  const cluster = await startCluster(t, { replicas: 0 })
  const at = await serve(t, cluster)
  for (const primary of cluster.primaries) await at.hold(effectOf(cluster, primary))
  const [, , third] = cluster.primaries as [ClusterNode, ClusterNode, ClusterNode]
  await cluster.moveSlot(0, third)
  const { port } = third
  const record = () => redisCli(port, 'HGET', keys.witness(0), 'run_id')
  const runId = /run_id:(\w+)/.exec(String(await redisCli(port, 'INFO', 'server')))![1]
  await waitFor(async () => (await record()) === runId, 20_000)
  for (const primary of cluster.primaries) t.match(await at.claim(effectOf(cluster, primary)), { status: 201 })
  t.same([...told(at, 'store.changed'), ...told(at, 'store.reset')], [])
})
