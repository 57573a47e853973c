/** A completed effect is told again without asking Redis, for a moment: with all that a claim is answered by. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing } from '../helpers/effects.ts'
import { redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { limits } from '../../src/limits.ts'

/** Completes a new effect, and claims it once more, so that it has just been told. */
async function told(app: TestApp, members: Record<string, unknown> = {}) {
  const { hold, complete, claim } = effectCalls(app)
  const effect = newEffect()
  const { held, effect_id } = await hold(effect, members)
  await complete({ ...held, result: { order: effect.entity } })
  const first = await claim({ ...effect, ...members })
  return { effect, effect_id, first }
}

/** Claim scripts that Redis ran since the last look. */
async function createScriptCount({ redis }: TestApp) {
  const stats = async () => String(await redisCli(redis.port, 'INFO', 'commandstats'))
  const count = async () =>
    [...(await stats()).matchAll(/cmdstat_evalsha:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
  let seen = await count()
  return async () => {
    const now = await count()
    const more = now - seen
    seen = now
    return more
  }
}

t.test('many who ask at once, or one after the other, cost Redis one script', async (t) => {
  const app = await startApp(t, { redis: await startRedis(t) })
  const { claim } = effectCalls(app)
  const { effect, first } = await told(app)
  const scripts = await createScriptCount(app)
  for (let index = 0; index < 20; index++) {
    const answer = await claim({ ...effect, owner: `bot-${index}`, claim_id: randomUUID() })
    t.strictSame([answer.status, answer.body], [200, first.body])
  }
  t.ok((await scripts()) < 5, 'the witness looks once a second')
})

t.test('a deleted effect is granted again: at once here, within a second everywhere', async (t) => {
  const redis = await startRedis(t)
  const [here, there] = [await startApp(t, { redis }), await startApp(t, { redis })]
  const [ours, theirs] = [effectCalls(here), effectCalls(there)]
  const { effect, effect_id } = await told(here)
  t.equal((await theirs.claim(effect)).status, 200)
  t.equal((await ours.remove(effect_id)).status, 204)
  const deletedMs = performance.now()
  const { held } = await ours.hold(effect)
  await waitFor(async () => (await theirs.claim(effect)).status === 409, limits.replayMs * 4)
  t.comment(`the other process knew after ${Math.round(performance.now() - deletedMs)} ms`)
  await ours.complete({ ...held, result: 'another' })
  t.match(await ours.claim(effect), { status: 200, body: { result: 'another' } })
})

t.test('another payload is refused, and one that has ended is told so', async (t) => {
  const app = await startApp(t)
  const { claim, hold, fail, complete } = effectCalls(app)
  const { effect } = await told(app, { payload: { quantity: 1 } })
  t.match(await claim({ ...effect, payload: { quantity: 1 } }), { status: 200 })
  t.match(await claim({ ...effect, payload: { quantity: 2 } }), { body: { code: 'fingerprint-mismatch' } })

  const other = newEffect()
  const ended = await hold(other, { claim_id: 'c-1' })
  await fail({ ...ended.held, ...passing })
  await complete({ ...(await hold(other, { claim_id: 'c-2' })).held, result: 1 })
  for (const _ of ['asked', 'kept']) {
    t.match(await claim({ ...other, claim_id: 'c-3' }), { status: 200 })
    t.match(await claim({ ...other, claim_id: 'c-1' }), { body: { code: 'claim-ended' } })
  }
})

t.test('the call that stored a result is known when it comes again', async (t) => {
  const app = await startApp(t)
  const { claim } = effectCalls(app)
  const call = { ...newEffect(), claim_id: 'c-1', result: { order: 1 } }
  t.equal((await claim(call)).status, 201)
  t.match(await claim({ ...call, claim_id: 'c-2', result: undefined }), { status: 200 })
  t.match(await claim(call), { status: 201, body: { replayed: true } })
})
