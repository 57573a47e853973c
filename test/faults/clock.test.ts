/**
 * The clock of Redis steps: no lease that is alive is taken for over because of that. Whoever holds one goes on, and new
 * effects are granted as always.
 */
import t, { type Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'
import { limits } from '../../src/limits.ts'

type Scene = TestApp & ReturnType<typeof effectCalls>

/** `moveClock` is no time that passes here: the process has its own clock, as it has in life. */
async function serve(t: Test, redis: RedisServer): Promise<Scene> {
  const app = patient(await startApp(t, { redis, clockStepMs: 500, background: true }))
  await waitFor(() => app.services.store.witnesses().every((witness) => witness.known()))
  return { ...app, ...effectCalls(app) }
}

const steps = ({ events }: TestApp) => events.filter(({ event }) => event === 'store.clock_stepped')

t.test('a step forward ends no lease: neither for a claim, nor for the sweep, nor for its holder', async (t) => {
  const redis = await startRedis(t)
  const [at, other] = [await serve(t, redis), await serve(t, redis)]
  const effects = [newEffect(), newEffect('signal_consumption'), newEffect(), newEffect(), newEffect()] as const
  const long = { lease_seconds: 600 }
  const [held, reclaimable, done, free] = await Promise.all(effects.map((effect) => at.hold(effect, long)))
  await at.moveClock(3000)
  // The first to meet the new clock is somebody who would take over.
  t.match(await other.claim(effects[1]), { status: 409, body: { code: 'effect-in-progress' } })
  t.match(await other.claim(effects[0]), { status: 409, body: { code: 'effect-in-progress' } })
  await waitFor(() => steps(at).length + steps(other).length > 0)
  t.equal(await at.services.sweep.once(), 0)
  t.equal((await other.get(held!.effect_id)).body.state, 'in_progress')
  const listed = (await other.list()).body.effects as { state: string }[]
  t.same(new Set(listed.map(({ state }) => state)), new Set(['in_progress']))
  const evidence = { resolution: 'abandoned', reason: 'a test', evidence: 1 }
  t.match(
    await other.resolve(held!.effect_id, { ...evidence, fencing_token: held!.fencing_token }),
    { status: 200 },
    'a person may still settle it',
  )

  t.equal((await at.renew(reclaimable!.held)).status, 200, 'its holder renews it')
  t.equal((await at.complete({ ...done!.held, result: 1 })).status, 200, 'and completes it')
  t.equal((await at.release(free!.held)).status, 200, 'or gives it back')
  t.match(await at.claim({ ...newEffect(), ...long }), { status: 201 }, 'new effects are granted')
  t.match(steps(at).concat(steps(other)), [{ step_seconds: Number }], 'told once')
  const [told] = steps(at).concat(steps(other)) as { step_seconds: number }[]
  t.ok(told!.step_seconds >= 3000 && told!.step_seconds < 3003, String(told!.step_seconds))

  const late = await serve(t, redis)
  t.match(
    await late.claim(effects[4]),
    { status: 409, body: { code: 'effect-in-progress' } },
    'known to who comes later',
  )
})

t.test('a lease has its real time, and ends then; one that is set after the step ends as always', async (t) => {
  const redis = await startRedis(t)
  const at = await serve(t, redis)
  const before = await at.hold(newEffect(), { lease_seconds: 4 })
  const atMs = performance.now()
  await at.moveClock(60)
  await waitFor(() => steps(at).length === 1)
  const after = await at.hold(newEffect(), { lease_seconds: 0.2 })
  const uncertain = async (effectId: string) => (await at.get(effectId)).body.state === 'uncertain'
  await waitFor(() => uncertain(after.effect_id), 10_000)
  if (performance.now() - atMs < 3500) t.notOk(await uncertain(before.effect_id), 'the older one is alive')
  await waitFor(() => uncertain(before.effect_id), 20_000)
  t.ok(performance.now() - atMs >= 3900, 'not before its time')
})

t.test('many leases that seem to be over hide none that is', async (t) => {
  const redis = await startRedis(t)
  const at = await serve(t, redis)
  const many = Array.from({ length: 4 * limits.sweepBatchMax }, () => newEffect())
  for (let from = 0; from < many.length; from += 100) {
    await Promise.all(many.slice(from, from + 100).map((effect) => at.hold(effect, { lease_seconds: 600 })))
  }
  await at.moveClock(3000)
  await waitFor(() => steps(at).length === 1)
  const silent = await Promise.all(Array.from({ length: 8 }, () => at.hold(newEffect(), { lease_seconds: 0.2 })))
  const told = () => at.events.flatMap((event) => (event.event === 'effect.uncertain' ? [event.effect_id] : []))
  await waitFor(() => told().length >= silent.length, 15_000)
  t.same(new Set(told()), new Set(silent.map(({ effect_id }) => effect_id)))
})

t.test('a step back and forth is no step for who was there before', async (t) => {
  const redis = await startRedis(t)
  const at = await serve(t, redis)
  await at.moveClock(-30)
  await waitFor(() => steps(at).length === 1)
  t.match(steps(at), [{ step_seconds: Number }])
  const held = await at.hold(newEffect('signal_consumption'), { lease_seconds: 20 })
  await at.moveClock(30)
  await waitFor(() => steps(at).length === 2)
  const { effect_id } = held
  t.equal((await at.get(effect_id)).body.state, 'in_progress', 'granted while it was behind, it has its time')
  t.equal((await at.renew(held.held)).status, 200)
})

t.test('a server that hangs, or a clock that is corrected by a little, has not stepped', async (t) => {
  const redis = await startRedis(t)
  const at = await serve(t, redis)
  await at.hold(newEffect())
  await at.moveClock(0.3)
  await redis.kill('SIGSTOP')
  await delay(1500)
  await redis.kill('SIGCONT')
  await at.hold(newEffect())
  const looks = at.services.store.witnesses()[0]!
  const { heardMs } = looks.known()!
  await waitFor(() => looks.known()!.heardMs > heardMs, 10_000)
  t.equal(steps(at).length, 0)
})
