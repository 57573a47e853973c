/** Calls that go out together are answered as if each had gone alone. */
import t from 'tap'
import { type Answer, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { redisCli, startRedis } from '../helpers/redis-server.ts'
import { scriptCost } from '../helpers/script-cost.ts'
import { limits } from '../../src/limits.ts'

const crowd = <T>(size: number, make: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: size }, (_, index) => make(index)))

/** A busy machine may answer 503: the same claim is sent again, as a worker does. */
const insistOn =
  (claim: (body: Record<string, unknown>) => Promise<Answer>) =>
  async (body: Record<string, unknown>): Promise<Answer> => {
    for (;;) {
      const answer = await claim({ claim_id: 'c-1', ...body })
      if (answer.status !== 503) return answer
    }
  }

/** How many scripts Redis was asked to run since CONFIG RESETSTAT. */
async function scriptsRun(port: number): Promise<number> {
  const stats = String(await redisCli(port, 'INFO', 'commandstats'))
  return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
}

t.test('many claims at once cost few scripts, and each is answered its own', async (t) => {
  const redis = await startRedis(t)
  const { complete, get, ...calls } = effectCalls(await startApp(t, { redis }))
  const claim = insistOn(calls.claim)
  await claim(newEffect())
  await redisCli(redis.port, 'CONFIG', 'RESETSTAT')
  const effects = Array.from({ length: 250 }, () => newEffect())
  const grants = await crowd(250, (index) => claim({ ...effects[index], owner: `bot-${index}` }))
  t.ok(
    grants.every(({ status }) => status === 201),
    'all are granted',
  )
  const scripts = await scriptsRun(redis.port)
  t.ok(scripts < 50, `250 claims took ${scripts} scripts`)

  const done = await crowd(250, (index) => {
    const { effect_id, fencing_token } = grants[index]?.body
    return complete({ effect_id, fencing_token, result: { order: index } })
  })
  t.ok(
    done.every(({ status }) => status === 200),
    'all are completed',
  )
  const records = await crowd(250, (index) => get(grants[index]?.body.effect_id))
  const crossed = records.filter(({ body }, index) => body.owner !== `bot-${index}` || body.result.order !== index)
  t.same(crossed, [], 'no answer and no result went to another effect')
})

t.test('one effect, many claims at once: one holder, the first', async (t) => {
  const redis = await startRedis(t)
  const { claim } = effectCalls(await startApp(t, { redis }))
  await claim(newEffect())
  const effect = newEffect()
  const answers = await crowd(300, (index) => claim({ ...effect, owner: `bot-${index}` }))
  t.equal(answers.filter(({ status }) => status === 201).length, 1)
  t.equal(answers.filter(({ status }) => status === 409).length, 299)
  t.equal(answers[0]?.status, 201, 'the first one has it')
})

t.test('one that fails spoils no other', async (t) => {
  const redis = await startRedis(t)
  const { services, call } = await startApp(t, { redis })
  const { claim, get } = effectCalls({ call })
  const effects = Array.from({ length: 50 }, () => newEffect())
  const broken = effects[20] as { type: string; entity: string }
  const { keys } = services.effects.context.locate('default', broken)
  await redisCli(redis.port, 'LPUSH', keys[0], 'not a record')
  const answers = await crowd(50, (index) => claim({ ...effects[index] }))
  t.equal(answers[20]?.status, 500, 'the value of the wrong kind is our own mistake')
  t.equal(answers.filter(({ status }) => status === 201).length, 49)
  for (const { status, body } of answers) if (status === 201) t.equal((await get(body.effect_id)).status, 200)
})

t.test('a server that has forgotten the scripts is told them again', async (t) => {
  const redis = await startRedis(t)
  const { claim } = effectCalls(await startApp(t, { redis }))
  await claim(newEffect())
  await redisCli(redis.port, 'SCRIPT', 'FLUSH')
  const answers = await crowd(200, () => claim(newEffect()))
  t.equal(answers.filter(({ status }) => status === 201).length, 200)
})

t.test('a hung server: nobody waits behind the others beyond the deadline, and nobody is granted twice', async (t) => {
  const redis = await startRedis(t)
  const { get, ...calls } = effectCalls(await startApp(t, { redis }))
  const claim = insistOn(calls.claim)
  await claim(newEffect())
  await redis.kill('SIGSTOP')
  const effects = Array.from({ length: 250 }, (_, index) => ({ ...newEffect(), claim_id: `c-${index}` }))
  const refused = await crowd(250, (index) => calls.claim({ ...effects[index] }))
  await redis.kill('SIGCONT')
  t.ok(
    refused.every(({ status }) => status === 503),
    'all are refused',
  )
  const waits = new Set(refused.map(({ headers }) => headers['retry-after']))
  t.ok(waits.size > 1, 'and do not come back together')
  const granted = await crowd(250, (index) => claim({ ...effects[index] }))
  t.equal(granted.filter(({ status }) => status === 201).length, 250, 'the same claims are granted afterwards')
  const records = await crowd(250, (index) => get(granted[index]?.body.effect_id))
  t.ok(
    records.every(({ body }) => body.attempt === 1),
    'once',
  )
})

t.test('the largest batch keeps Redis busy for a moment only', async (t) => {
  const redis = await startRedis(t)
  const { claim } = effectCalls(await startApp(t, { redis }))
  const entity = (round: number, index: number) => `${round}-${index}-${'x'.repeat(900)}`
  const cost = await scriptCost(
    (...args) => redisCli(redis.port, ...args),
    (round) =>
      crowd(limits.coalesceItemsMax + 1, (index) => claim({ type: 'order_placement', entity: entity(round, index) })),
  )
  t.ok(cost < 2, `an average batch of up to ${limits.coalesceItemsMax} claims takes ${cost.toFixed(2)} ms`)
})
