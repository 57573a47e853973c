/** Behind Sentinel: every call as on one server, and through failovers nothing but time is lost. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { newEffect } from '../helpers/effects.ts'
import { startSentinel } from '../helpers/redis-sentinel.ts'
import { freePort, redisCli, type RedisServer, waitFor } from '../helpers/redis-server.ts'
import { infoNumber, inTime, journey, readEvents, recovered, refused, startScene } from '../helpers/store-scene.ts'
import { startProxy, type TcpProxy } from '../helpers/tcp-proxy.ts'

/** What a failover does to grants is another test's matter: here they are given at once. */
const config = 'redis: { failover_grace_seconds: 0 }'
const ledger = () => newEffect('ledger_write')

/** How far each of them is in the stream of writes. */
const offsets = async (servers: readonly RedisServer[]) =>
  new Set(
    await Promise.all(
      servers.map(async ({ port }) => infoNumber(await redisCli(port, 'INFO', 'replication'), 'master_repl_offset')),
    ),
  )

t.test('everything works by configuration alone', async (t) => {
  const { place } = await startSentinel(t)
  await journey(t, await startScene(t, { place, config, background: true }))
})

t.test('a primary that is killed: 503 in time, granted again without help, tokens rise', async (t) => {
  const sentinel = await startSentinel(t)
  const at = await startScene(t, { place: sentinel.place, config })
  const effects = Array.from({ length: 8 }, () => newEffect())
  const before = await Promise.all(effects.map((effect) => at.hold(effect)))
  const primary = await sentinel.primary()
  // Asynchronous replication: what a failover must not lose here is there before it.
  await waitFor(async () => (await offsets(sentinel.servers)).size === 1, 20_000)
  await primary.kill('SIGKILL')
  await waitFor(() => !at.services.store.connected())
  await refused(t, at.claim(newEffect()), /^(unavailable|failing_over)$/)
  await refused(t, at.complete(before[0]!.held), /^(unavailable|failing_over)$/)
  await sentinel.changedFrom(primary)
  await recovered(t, at)
  for (const [index, { held, fencing_token }] of before.entries()) {
    t.match(await at.claim(effects[index]!), { status: 409, body: { code: 'effect-in-progress' } }, 'still held')
    t.equal((await at.release(held)).status, 200)
    t.ok((await at.hold(effects[index]!)).fencing_token > fencing_token)
  }
})

t.test('failovers in a row: every connection that is kept comes back', async (t) => {
  const sentinel = await startSentinel(t)
  const durable = 'effects: { types: { ledger_write: { durability: { replicated: 1 } } } }'
  const at = await startScene(t, { place: sentinel.place, config: `${config}\n${durable}`, background: true })
  const heard = await readEvents(t, at)
  await at.hold(ledger())
  for (let round = 0; round < 3; round++) {
    await sentinel.failover()
    await recovered(t, at)
    // The lane for replicas, and a replica that follows the new primary.
    await waitFor(async () => (await inTime(t, at.claim(ledger()))).status === 201, 30_000)
    // The sweep finds a silent holder, and the reader of the stream hears of it.
    const { effect_id } = await at.hold(newEffect(), { lease_seconds: 0.1 })
    await waitFor(() => heard().includes(effect_id), 30_000)
  }
})

t.test('a primary that hangs is given up for the next one, and grants nothing when it goes on', async (t) => {
  const sentinel = await startSentinel(t)
  const at = await startScene(t, { place: sentinel.place, config })
  await at.hold(newEffect())
  const primary = await sentinel.primary()
  await primary.kill('SIGSTOP')
  const effects = Array.from({ length: 10 }, () => ({ ...newEffect(), claim_id: randomUUID() }))
  await Promise.all(effects.map((effect) => refused(t, at.claim(effect), 'outcome_unknown')))
  await sentinel.changedFrom(primary)
  await recovered(t, at)
  await primary.kill('SIGCONT')
  await sentinel.whole()
  for (const effect of effects) {
    t.match(await inTime(t, at.claim(effect)), { status: 201, body: { attempt: 1 } }, 'nobody was granted it before')
  }
})

/**
 * The old primary lives, with the service at its side; Sentinels and replicas are on the other. Until the service hears
 * of the change it is told by the old primary alone. What holds: with `min-replicas-to-write` it refuses once no replica
 * has reported for `min-replicas-max-lag` seconds, and what a type with `replicated` grants is never lost.
 */
t.test('cut off with the old primary: nothing replicated is granted, nothing at all after its lag', async (t) => {
  const lag = ['--min-replicas-to-write', '1', '--min-replicas-max-lag', '2', '--repl-ping-replica-period', '1']
  // Everybody reaches a server through its proxy, and each of the others from an address of its own.
  const proxies = new Map<number, TcpProxy>()
  const ports = [await freePort(), await freePort(), await freePort()]
  for (const port of ports) proxies.set(port, await startProxy(t, port))
  const sentinel = await startSentinel(t, {
    ports,
    announced: (port) => proxies.get(port)!.port,
    argsOf: ({ index }) => [...lag, '--bind-source-addr', `127.0.0.${10 + index}`],
    sentinelConfig: (index) => `bind-source-addr 127.0.0.${20 + index}\nsentinel announce-ip 127.0.0.1`,
  })
  const watched = await Promise.all(sentinel.sentinels.map(({ port }) => startProxy(t, port)))
  const place = { ...sentinel.place, sentinels: watched.map(({ port }) => ({ host: '127.0.0.1', port })) }
  const durable = 'effects: { types: { ledger_write: { durability: { replicated: 1 } } } }'
  const at = await startScene(t, { place, config: `${config}\n${durable}` })
  await at.hold(ledger())
  const [old] = sentinel.servers as [(typeof sentinel.servers)[number]]
  const wall = proxies.get(old.port)!
  wall.applies = (from) => from !== '127.0.0.1'
  wall.cut()
  for (const proxy of watched) proxy.blackHole()
  const lost = ledger()
  t.match(await inTime(t, at.claim(lost)), { status: 503 }, 'no replica has it')
  await sentinel.changedFrom(old)
  t.equal(((await redisCli(old.port, 'ROLE')) as string[])[0], 'master', 'both take themselves for the primary')
  await waitFor(async () => (await inTime(t, at.claim(newEffect()))).body.reason === 'not_replicated', 10_000)
  await refused(t, at.claim(newEffect()), 'not_replicated')
  const elsewhere = await startScene(t, { place: sentinel.place, config: `${config}\n${durable}` })
  // The other replica has to find the new primary first.
  const granted = await waitFor(async () => {
    const answer = await inTime(t, elsewhere.claim(lost))
    return answer.status === 201 ? answer : undefined
  }, 20_000)
  t.equal(granted.body.attempt, 1, 'on the other side it is free')
  wall.heal()
  for (const proxy of watched) proxy.heal()
  await recovered(t, at)
  t.match(await at.claim(lost), { status: 409, body: { code: 'effect-in-progress' } })
})

t.test(
  'a primary is lost while a Sentinel is asked to tell of failovers again: nothing is left uncaught',
  async (t) => {
    const sentinel = await startSentinel(t)
    const proxy = await startProxy(t, sentinel.sentinels[0]!.port)
    let asked = 0
    proxy.watch = (piece, _passage, direction) => {
      if (direction === 'replies' || !/subscribe/i.test(piece.toString('latin1'))) return piece
      asked += 1
      return asked === 2 ? undefined : piece
    }
    const place = { ...sentinel.place, sentinels: [{ host: '127.0.0.1', port: proxy.port }] }
    const at = await startScene(t, { place, config })
    await waitFor(() => asked > 0)
    proxy.reset()
    await waitFor(() => asked > 1, 10_000)
    await redisCli(sentinel.servers[0]!.port, 'CLIENT', 'KILL', 'TYPE', 'normal')
    await waitFor(() => asked > 2, 10_000)
    await recovered(t, at)
  },
)
