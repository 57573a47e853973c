/**
 * A Cluster's primary is cut off from all other nodes, its replica too, while services reach everybody. Every node is reached
 * through proxies, and reaches the others from an address of its own.
 */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { type ClusterNode, startCluster } from '../helpers/redis-cluster.ts'
import { effectOf } from '../helpers/slots.ts'
import { waitFor } from '../helpers/redis-server.ts'
import { inTime, recovered, refused, startScene } from '../helpers/store-scene.ts'
import { startProxy, type TcpProxy } from '../helpers/tcp-proxy.ts'

const config = 'effects: { types: { ledger_write: { durability: { replicated: 1 } } } }'
const addressOf = (index: number) => `127.0.0.${10 + index}`

/** Three primaries with a replica each, and what cuts the first primary off from the other nodes. */
async function scene(t: Test) {
  const walls: { data: TcpProxy; bus: TcpProxy }[] = []
  const cluster = await startCluster(t, {
    // For so long the old primary goes on: time enough to be granted something there.
    nodeTimeoutMs: 4000,
    argsOf: ({ index }) => ['--bind-source-addr', addressOf(index), '--cluster-require-full-coverage', 'no'],
    announced: async ({ index, port, busPort }) => {
      const wall = { data: await startProxy(t, port), bus: await startProxy(t, busPort) }
      walls[index] = wall
      return { port: wall.data.port, busPort: wall.bus.port }
    },
  })
  const proxies = () => walls.flatMap(({ data, bus }) => [data, bus])
  function cutOff(): void {
    walls.forEach(({ data, bus }, index) => {
      const separated = (from: string) => from !== '127.0.0.1' && (index === 0 || from === addressOf(0))
      for (const proxy of [data, bus]) {
        proxy.applies = separated
        proxy.cut()
      }
    })
  }
  return { cluster, cutOff, heal: () => proxies().forEach((proxy) => proxy.heal()) }
}

t.test(
  'cut off from the Cluster: what is granted there alone is not granted again, nor anything replicated',
  async (t) => {
    const { cluster, cutOff, heal } = await scene(t)
    const [old, ...others] = cluster.primaries as [ClusterNode, ...ClusterNode[]]
    const heir = cluster.replicaOf(old)
    const at = await startScene(t, { place: cluster.place, config, background: true })
    for (const node of cluster.primaries) await recovered(t, at, () => effectOf(cluster, node))
    const [kept, lost, replicated] = [
      effectOf(cluster, old),
      effectOf(cluster, old),
      effectOf(cluster, old, 'ledger_write'),
    ]
    const { held } = await at.hold(kept)
    t.equal(await old.cli('WAIT', 1, 5000), 1)
    cutOff()
    const grant = await inTime(t, at.claim({ ...lost, claim_id: randomUUID() }))
    t.equal(grant.status, 201, '`primary`: the old primary grants until it has noticed')
    const unconfirmed = { ...replicated, claim_id: randomUUID() }
    t.match(await inTime(t, at.claim(unconfirmed)), { status: 503 }, '`replicated`: no replica has it')
    await waitFor(async () => (await old.cli('CLUSTER', 'INFO'))?.toString().includes('cluster_state:fail'), 20_000)
    t.equal(((await old.cli('ROLE')) as string[])[0], 'master', 'it still takes itself for the primary')
    await refused(t, at.claim(effectOf(cluster, old)), 'failing_over')
    await waitFor(async () => ((await heir.cli('ROLE')) as string[])[0] === 'master', 30_000)
    await waitFor(() => at.events.some(({ event }) => event === 'store.changed'), 20_000)
    for (const node of others) t.equal((await inTime(t, at.claim(effectOf(cluster, node)))).status, 201)
    const late = await startScene(t, { place: cluster.place, config })
    for (const { claim } of [at, late]) {
      await refused(t, claim({ ...lost, owner: 'another' }), 'failing_over')
      await refused(t, claim({ ...effectOf(cluster, old), owner: 'another' }), 'failing_over')
    }
    t.equal((await inTime(t, at.complete({ ...held, result: 1 }))).status, 200, 'what was on the replica is served')
    const { effect_id, fencing_token, reference } = grant.body
    const report = { effect_id, fencing_token, reference, result: { order: 1 } }
    t.match(await inTime(t, at.complete(report)), { status: 200, body: { recovered: true } }, 'its holder reports')
    heal()
    await cluster.whole(30_000)
    t.equal(((await old.cli('ROLE')) as string[])[0], 'slave')
    t.match(await inTime(t, at.claim({ ...lost, owner: 'another' })), { status: 200, body: { result: { order: 1 } } })
  },
)
