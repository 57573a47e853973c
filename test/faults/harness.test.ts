/** What spoils the other tests' world does what it says: a proxy, a Cluster and Sentinels of our own. */
import t from 'tap'
import { startApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { slotOf, startCluster } from '../helpers/redis-cluster.ts'
import { startSentinel } from '../helpers/redis-sentinel.ts'
import { redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { startProxy } from '../helpers/tcp-proxy.ts'

t.test('a proxy delays, throttles, slices, holds, drops, resets and cuts, and heals', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const text = 'x'.repeat(1000)
  const echo = async () => {
    const startMs = performance.now()
    const reply = await redisCli(proxy.port, 'ECHO', text).catch((error: Error) => error.message)
    return { whole: reply === text, tookMs: performance.now() - startMs }
  }
  proxy.set('replies', { delayMs: 50 })
  t.ok((await echo()).tookMs >= 49)
  proxy.set('replies', { sliceBytes: 7 })
  t.ok((await echo()).whole)
  proxy.set('requests', { bytesPerSecond: 10_000 })
  t.ok((await echo()).tookMs >= 95)
  proxy.heal()
  for (const spoil of [() => proxy.blackHole(), () => proxy.set('requests', { hold: true })]) {
    spoil()
    const held = echo()
    await waitFor(() => proxy.open === 1)
    proxy.heal()
    t.ok((await held).whole, 'what was held arrives')
    await waitFor(() => proxy.open === 0)
  }
  let passed = 0
  proxy.watch = (piece) => {
    passed += 1
    return piece
  }
  proxy.set('replies', { drop: true })
  const dropped = echo()
  await waitFor(() => passed === 2)
  proxy.heal()
  t.notOk((await dropped).whole, 'what was dropped does not')
  proxy.cut()
  t.notOk((await echo()).whole)
  proxy.applies = (from) => from !== '127.0.0.1'
  t.ok((await echo()).whole, 'only some are cut off')
  proxy.heal()
  t.ok((await echo()).whole)
  await waitFor(() => proxy.open === 0)
})

t.test('a Cluster serves, fails over by order and moves a slot with its keys', async (t) => {
  const cluster = await startCluster(t)
  const { hold } = effectCalls(await startApp(t, { place: cluster.place }))
  await hold(newEffect())
  const [primary] = cluster.primaries as [(typeof cluster.primaries)[number]]
  await cluster.promote(cluster.replicaOf(primary))
  await cluster.whole()
  const from = await cluster.ownerOf(0)
  t.equal(from, cluster.replicaOf(primary))
  const slot = slotOf('a')
  const owner = await cluster.ownerOf(slot)
  await owner.cli('SET', 'a', 1)
  const to = cluster.primaries.find((node) => node !== owner && node !== primary)!
  await cluster.moveSlot(slot, to)
  t.equal(await cluster.ownerOf(slot), to)
  t.equal(await to.cli('GET', 'a'), '1')
})

t.test('Sentinels fail over by order and by themselves', async (t) => {
  const sentinel = await startSentinel(t)
  const { hold } = effectCalls(await startApp(t, { place: sentinel.place }))
  await hold(newEffect())
  const first = await sentinel.primary()
  const second = await sentinel.failover()
  t.not(second, first)
  await sentinel.whole()
  await second.kill('SIGKILL')
  t.not(await sentinel.changedFrom(second), second)
})
