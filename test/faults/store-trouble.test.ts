/** Every trouble of Redis is a 503 that says which, in time, and ends without help; nothing is granted meanwhile. */
import t, { type Test } from 'tap'
import { type AppOptions, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect, rejected } from '../helpers/effects.ts'
import { redisCli, type RedisOptions, startRedis, waitFor } from '../helpers/redis-server.ts'
import { inTime, recovered, refused, type Scene as StoreScene, startScene } from '../helpers/store-scene.ts'
import { startProxy } from '../helpers/tcp-proxy.ts'
import { playTroubles, troubleArgs, troubleUser } from '../helpers/troubles.ts'

type Scene = StoreScene & { cli: (...args: (string | number)[]) => Promise<unknown> }

/** What a restart loses is the matter of other tests: here a Redis that came back empty is served. */
const config = 'redis: { failover_grace_seconds: 0 }'

/** A service on a Redis of its own, that has answered once. */
async function scene(t: Test, options: RedisOptions = {}, login?: AppOptions['login']): Promise<Scene> {
  const redis = await startRedis(t, options)
  const at = await startScene(t, { redis, config, ...(login ? { login } : {}) })
  return { ...at, cli: (...args) => redisCli(redis.port, ...args) }
}

t.test('one server through all of it', async (t) => {
  const { redis: server, ...at } = await scene(t, { args: troubleArgs }, troubleUser)
  const nobody = await startScene(t, { redis: server, config })
  const effects = { effect: newEffect, elsewhere: () => [], key: 'fill:' }
  await playTroubles(t, { server, at: { ...at, redis: server }, nobody, ...effects, away: 'unavailable' })
})

t.test('Redis is away', async (t) => {
  const at = await scene(t)
  const { held } = await at.hold(newEffect())
  await at.redis.kill('SIGKILL')
  // What is sent before the service has noticed may have arrived: that is outcome_unknown, and another scene.
  await waitFor(() => !at.services.store.connected())
  await refused(t, at.claim(newEffect()), 'unavailable')
  await refused(t, at.complete(held), 'unavailable')
  await refused(t, at.list(), 'unavailable')
  await at.redis.restart()
  await recovered(t, at)
  const told = () => at.events.map(({ event }) => event).filter((event) => event.startsWith('store.'))
  await waitFor(async () => (await at.list()).status === 200 && told().includes('store.recovered'))
  t.same(told(), ['store.trouble', 'store.reset', 'store.recovered'], 'each is told once')
})

t.test('Redis is away when the service starts', async (t) => {
  const at = await scene(t)
  await at.redis.stop()
  const late = await startApp(t, { redis: at.redis, config, away: true })
  const calls = effectCalls(late)
  await refused(t, calls.claim(newEffect()), 'unavailable')
  await at.redis.restart()
  await recovered(t, { ...at, ...late, ...calls })
})

t.test('Redis hangs for less than a call', async (t) => {
  const at = await scene(t)
  await at.hold(newEffect())
  await at.redis.kill('SIGSTOP')
  const call = inTime(t, at.claim(newEffect()))
  const timer = setTimeout(() => void at.redis.kill('SIGCONT'), 700)
  const { status, body } = await call
  clearTimeout(timer)
  t.equal(status, 201)
  t.equal(body.attempt, 1, 'granted once, however often it was sent')
  t.notOk('replayed' in body)
})

t.test('Redis is loading', async (t) => {
  const debug = ['--enable-debug-command', 'yes']
  const slowly = ['--key-load-delay', '500', '--loading-process-events-interval-bytes', '1024']
  const at = await scene(t, { args: [...debug, ...slowly] })
  await at.hold(newEffect())
  await at.cli('DEBUG', 'POPULATE', 4000)
  await at.cli('SAVE')
  const restarted = at.redis.restart()
  const reasons = new Set<string>()
  await waitFor(async () => (await at.claim(newEffect())).status === 503)
  await waitFor(async () => {
    const { status, body } = await inTime(t, at.claim(newEffect()))
    if (status !== 201) reasons.add(`${status} ${body.reason}`)
    return status === 201
  }, 15_000)
  await restarted
  t.ok(reasons.has('503 loading'), [...reasons].join(', '))
  for (const reason of reasons) t.match(reason, /^503 (loading|unavailable|outcome_unknown)$/)
})

t.test('Redis is full: nothing begins, and what happened is recorded', async (t) => {
  const at = await scene(t)
  const doubtful = await at.hold(newEffect())
  await at.moveClock(31)
  const held = await Promise.all(Array.from({ length: 4 }, () => at.hold(newEffect())))
  const [done, failed, renewed, released] = held.map((holder) => holder.held)
  await at.cli('CONFIG', 'SET', 'maxmemory', 1)
  await refused(t, at.claim(newEffect()), 'out_of_memory')
  t.equal((await at.complete({ ...done, result: { order: 1 } })).status, 200)
  t.equal((await at.fail({ ...failed, ...rejected })).status, 200)
  t.equal((await at.renew(renewed)).status, 200)
  t.equal((await at.release(released)).status, 200)
  t.same((await at.get(done!.effect_id)).body.result, { order: 1 })
  t.equal((await at.list()).status, 200)
  t.equal((await at.get(doubtful.effect_id)).body.state, 'uncertain')
  const executed = { resolution: 'executed', reason: 'looked' }
  t.equal((await at.resolve(doubtful.effect_id, executed)).status, 200)
  await at.cli('CONFIG', 'SET', 'maxmemory', 0)
  await recovered(t, at)
})

t.test('Redis refuses a command inside a script', async (t) => {
  const at = await scene(t, { args: troubleArgs }, troubleUser)
  await at.hold(newEffect())
  await at.cli('ACL', 'SETUSER', troubleUser.username, '-zadd')
  await refused(t, at.claim(newEffect()), 'misconfigured')
  await at.cli('ACL', 'SETUSER', troubleUser.username, '+@all')
  await recovered(t, at)
})

t.test('a database that Redis refuses: nothing is served from another one', async (t) => {
  const redis = await startRedis(t, { args: ['--databases', '4'] })
  const cli = (...args: string[]) => redisCli(redis.port, ...args)
  const absent = await startScene(t, { redis, redisUrl: `${redis.url}/9`, config })
  await refused(t, absent.claim(newEffect()), 'misconfigured')
  t.equal(await cli('DBSIZE'), 0)

  const at = await startScene(t, { redis, redisUrl: `${redis.url}/2`, config })
  const effect = newEffect()
  const { held } = await at.hold(effect)
  await cli('ACL', 'SETUSER', 'default', '-select')
  await cli('CLIENT', 'KILL', 'TYPE', 'normal')
  await waitFor(() => !at.services.store.connected())
  await refused(t, at.claim(effect), 'misconfigured')
  t.equal(await cli('DBSIZE'), 0, 'the holder is alone')
  await cli('ACL', 'SETUSER', 'default', '+select')
  await recovered(t, at)
  t.equal((await at.claim(effect)).body.code, 'effect-in-progress')
  t.equal((await at.complete(held)).status, 200)
})

t.test('Redis has forgotten its scripts', async (t) => {
  const at = await scene(t)
  const { held } = await at.hold(newEffect())
  await at.cli('SCRIPT', 'FLUSH')
  t.equal((await at.complete(held)).status, 200, 'nobody notices')
  await at.cli('SCRIPT', 'FLUSH')
  t.equal((await at.claim(newEffect())).status, 201)
})

t.test('a key of another type is our trouble alone: nobody is granted anything', async (t) => {
  const at = await scene(t)
  const effect = newEffect()
  const { effect_id, held } = await at.hold(effect)
  const [key] = (await at.cli('KEYS', `*:effect:${effect_id}`)) as string[]
  await at.cli('DEL', key!)
  await at.cli('HSET', key!, 'a', 'b')
  const answer = await at.claim(effect)
  t.equal(answer.status, 500)
  t.equal(answer.body.code, 'internal')
  t.notOk('fencing_token' in answer.body)
  t.equal((await at.complete(held)).status, 500)
  t.equal((await at.claim(newEffect())).status, 201, 'other effects are untouched')
})

t.test('Redis is far away: what is in flight is listed in the time of a call all the same', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const app = await startApp(t, { redis, redisUrl: proxy.url })
  const { hold, list } = effectCalls(app)
  await Promise.all(Array.from({ length: 100 }, () => hold(newEffect())))
  proxy.set('replies', { delayMs: 12 })
  const { status, body } = await inTime(t, list('?limit=500'))
  t.equal(status, 200)
  t.equal(body.effects.length, 100)
  t.equal(body.next_cursor, null)
})

t.test('a reply that was lost is asked for again: one grant, told once', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const app = await startApp(t, { redis, redisUrl: proxy.url })
  const { hold, claim, complete, fail, release } = effectCalls(app)
  await hold(newEffect())
  let lost = 0
  const loseOne = () => {
    proxy.watch = (piece, passage, direction) => {
      if (direction === 'requests') return piece
      lost++
      proxy.watch = undefined
      passage.reset()
      return undefined
    }
  }
  const effect = newEffect()
  loseOne()
  const first = await inTime(t, claim(effect))
  t.equal(first.status, 201)
  t.notOk('replayed' in first.body, 'the caller has asked once')
  t.notOk('idempotent-replayed' in first.headers)
  t.equal(first.body.attempt, 1)
  t.equal((await claim(effect)).body.code, 'effect-in-progress')
  const { effect_id, fencing_token } = first.body
  const held = { effect_id, fencing_token }
  loseOne()
  t.equal((await inTime(t, complete({ ...held, result: 1 }))).status, 200)
  loseOne()
  const settled = await inTime(t, claim({ ...newEffect(), result: 2 }))
  t.match(settled, { status: 201, body: { outcome: 'completed', attempt: 1 } })
  const other = await hold(newEffect())
  loseOne()
  t.match(await inTime(t, fail({ ...other.held, ...rejected })), { status: 200, body: { outcome: 'failed' } })
  const free = await hold(newEffect())
  loseOne()
  t.match(await inTime(t, release(free.held)), { status: 200, body: { attempt: 0 } })
  t.equal(lost, 5)
})

t.test('a reply that comes late is not taken for the reply to something else', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const app = await startApp(t, { redis, redisUrl: proxy.url })
  const { hold, claim, get } = effectCalls(app)
  await hold(newEffect())
  proxy.set('replies', { hold: true })
  const effects = Array.from({ length: 10 }, () => newEffect())
  const answers = Promise.all(effects.map((effect) => inTime(t, claim(effect))))
  const timer = setTimeout(() => proxy.heal(), 650)
  for (const [index, { status, body }] of (await answers).entries()) {
    t.equal(status, 201)
    const record = (await get(body.effect_id)).body
    t.equal(record.entity, effects[index]?.entity)
    t.equal(record.fencing_token, body.fencing_token)
    t.equal(record.attempt, 1)
  }
  clearTimeout(timer)
})
