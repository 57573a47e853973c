/** In a Cluster a shard in trouble refuses as one server would, and the effects of the others never notice. */
import t from 'tap'
import { type ClusterNode, slotOf, startCluster } from '../helpers/redis-cluster.ts'
import { effectOf, effectsWhere, slotOfEffect } from '../helpers/slots.ts'
import { inTime, recovered, refused, startScene } from '../helpers/store-scene.ts'
import { playTroubles, troubleArgs, troubleUser } from '../helpers/troubles.ts'

const config = 'redis: { failover_grace_seconds: 0 }'

t.test('one shard through all of it', async (t) => {
  const alone = ['--cluster-require-full-coverage', 'no']
  const cluster = await startCluster(t, { replicas: 0, nodeTimeoutMs: 60_000, args: [...troubleArgs, ...alone] })
  const [server, ...others] = cluster.primaries as [ClusterNode, ...ClusterNode[]]
  const at = await startScene(t, { place: cluster.place, config, login: troubleUser })
  const nobody = await startScene(t, { place: cluster.place, config })
  const effect = () => effectOf(cluster, server)
  const elsewhere = () => others.flatMap((other) => [effectOf(cluster, other), effectOf(cluster, other)])
  for (const node of cluster.primaries) await recovered(t, at, () => effectOf(cluster, node))
  for (const node of cluster.primaries) await recovered(t, nobody, () => effectOf(cluster, node))
  const tag = Array.from({ length: 100 }, (_, n) => `{${n}}`).find((tag) => slotOf(tag) < 5000)!
  await playTroubles(t, { server, at, nobody, effect, elsewhere, key: `${tag}fill:`, away: 'failing_over' })

  await t.test('a slot that nobody serves', async (t) => {
    const [one] = effectsWhere(1, (slot) => slot < 5000)
    const slot = slotOfEffect(one!)
    await server.cli('CLUSTER', 'DELSLOTS', slot)
    await refused(t, at.claim(one!), 'failing_over')
    const sameServer = effectsWhere(1, (other) => other < 5000 && other !== slot)[0]!
    t.equal((await inTime(t, at.claim(sameServer))).status, 201, 'its other slots are served')
    await server.cli('CLUSTER', 'ADDSLOTS', slot)
    await recovered(t, at, () => effectsWhere(1, (other) => other === slot)[0]!)
  })
})
