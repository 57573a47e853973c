/** Behind Sentinel every trouble of the primary is told as on one server, and Sentinels that are away are noticed by nobody. */
import t from 'tap'
import { connectStore } from '../../src/redis/client.ts'
import { loadPreludes } from '../../src/redis/scripts.ts'
import { newEffect } from '../helpers/effects.ts'
import { startSentinel } from '../helpers/redis-sentinel.ts'
import { waitFor } from '../helpers/redis-server.ts'
import { recovered, refused, startScene } from '../helpers/store-scene.ts'
import { quietWatch } from '../helpers/store.ts'
import { playTroubles, troubleArgs, troubleUser } from '../helpers/troubles.ts'

const config = 'redis: { failover_grace_seconds: 0 }'

t.test('one primary through all of it, and nothing is printed behind the log', async (t) => {
  const printed = t.capture(console, 'error')
  // Nobody is promoted: that is the matter of other tests.
  const sentinel = await startSentinel(t, { replicas: 1, args: troubleArgs, downAfterMs: 60_000 })
  const { place, servers, sentinels } = sentinel
  const [server] = servers as [(typeof servers)[number]]
  const at = await startScene(t, { place, config, login: troubleUser })
  const nobody = await startScene(t, { place, config })
  const mine = {
    server,
    at,
    nobody,
    effect: newEffect,
    elsewhere: () => [],
    key: 'fill:',
    away: 'unavailable',
  } as const
  await playTroubles(t, mine)

  await t.test('the Sentinels are away', async (t) => {
    const told: string[] = []
    const connection = (event: string, detail: string) => void told.push(`${event} ${detail}`)
    const observer = { answered: () => undefined, trouble: () => undefined, connection }
    const address = { ...place, username: null, password: null, tls: null }
    const store = connectStore(address, loadPreludes(), observer, quietWatch())
    t.teardown(() => store.close())
    await waitFor(() => store.connected())
    await Promise.all(sentinels.map((one) => one.kill('SIGKILL')))
    const lost = sentinels.map(({ port }) => `error Sentinel 127.0.0.1:${port} cannot be heard: `)
    await waitFor(() => lost.every((text) => told.some((line) => line.startsWith(text))))
    await recovered(t, at)
    await server.kill('SIGKILL')
    await waitFor(() => !at.services.store.connected())
    await refused(t, at.claim(newEffect()), 'unavailable')
    await server.restart()
    await Promise.all(sentinels.map((one) => one.restart()))
    await recovered(t, at)
    t.equal(told.filter((line) => line.startsWith(lost[0]!)).length, 1, 'once, though it is tried again and again')
  })
  t.same(
    printed().map(({ args }) => String(args)),
    [],
  )
})
