/** `wait_seconds`: a duplicate waits for what becomes of the running attempt, and is answered at once when that is known. */
import t from 'tap'
import { makeKey, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { type Settled, waitingCalls } from '../helpers/waiting.ts'

/** Far below the 20 s that the waiters of these tests are ready to wait, and far above what an answer takes. */
const soonMs = 10_000

const app = await startApp(t, { redis: await startRedis(t), config: 'effects: {types: {quiet: {mode: shadow}}}' })
const { call, events, redis, services } = app
const { hold, claim, complete, fail, release, renew, resolve, get } = effectCalls(app)
const { attach, attachInOrder, waiting } = waitingCalls(app)

const statusOf = ({ answer: { status, body } }: Settled) => `${status} ${String(body.outcome)}`

t.test('wait_seconds needs a claim_id, and is 0 to 60', async (t) => {
  const effect = { ...newEffect(), claim_id: 'c' }
  for (const [members, pointer] of [
    [{ wait_seconds: 1, claim_id: undefined }, '/claim_id'],
    [{ wait_seconds: 0, claim_id: undefined }, '/claim_id'],
    [{ wait_seconds: -1 }, '/wait_seconds'],
    [{ wait_seconds: 60.5 }, '/wait_seconds'],
    [{ wait_seconds: '1' }, '/wait_seconds'],
  ] as const) {
    const answer = await claim({ ...effect, ...members })
    t.match(answer, { status: 400, body: { code: 'invalid-request', errors: [{ pointer }] } }, pointer)
  }
  t.match(await claim({ ...effect, wait_seconds: 60 }), { status: 201, body: { outcome: 'claimed' } })
  t.match(await claim({ ...effect, claim_id: 'd', wait_seconds: 0 }), { status: 409 }, '0 waits for nothing')
})

t.test('a waiter is told the result as soon as it is there, byte for byte', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiters = [attach(effect), attach({ effect_id }), attach(effect)]
  await waiting(3, effect_id)
  await complete(`{"effect_id":"${effect_id}","fencing_token":${held.fencing_token},"result":{"b":1.50,"a":2}}`)
  for (const { answer, tookMs } of await Promise.all(waiters)) {
    t.match(answer, { status: 200, body: { outcome: 'completed', replayed: true, attempt: 1 } })
    t.equal(answer.headers['idempotent-replayed'], 'true')
    t.ok(answer.text.includes('"result":{"b":1.50,"a":2}'))
    t.ok(tookMs < soonMs)
  }
  t.equal(services.waiting.count(), 0)
})

t.test('what needs no wait is answered at once', async (t) => {
  const effect = newEffect()
  const { effect_id } = await hold(effect, { claim_id: 'mine', payload: 1 })
  t.match((await attach(effect, { payload: 2 })).answer, { status: 422, body: { code: 'fingerprint-mismatch' } })
  const again = await claim({ ...effect, claim_id: 'mine', payload: 1, wait_seconds: 20 })
  t.match(again, { status: 201, body: { effect_id, replayed: true } })
  t.match((await attach(newEffect())).answer, { status: 201, body: { attempt: 1 } })
})

t.test('a failed effect, and one whose attempts are used up, is told to all who wait', async (t) => {
  for (const error of [rejected, passing]) {
    const effect = newEffect()
    const { held, effect_id } = await hold(effect)
    const waiters = [attach(effect), attach(effect)]
    await waiting(2, effect_id)
    await fail({ ...held, ...error })
    const settled = await Promise.all(
      waiters.map(async (waiter) => {
        const { answer } = await waiter
        if (answer.status !== 201) return `${answer.status} ${answer.body.outcome}`
        // Released: one of them is the holder now.
        const { fencing_token } = answer.body
        return (await fail({ effect_id, fencing_token, ...rejected })).body.outcome as string
      }),
    )
    t.same(settled.toSorted(), error === rejected ? ['200 failed', '200 failed'] : ['200 failed', 'failed'])
  }
})

t.test('when the holder releases, the first who came is granted, then the next', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiters = await attachInOrder(effect, 4, effect_id)
  await release(held)
  for (let turn = 0; turn < waiters.length; turn++) {
    const { answer } = await waiters[turn]!
    t.match(answer, { status: 201, body: { outcome: 'claimed', attempt: 1 } }, `waiter ${turn}`)
    await waitFor(() => services.waiting.count() === waiters.length - turn - 1)
    await release({ effect_id, fencing_token: answer.body.fencing_token })
  }
})

t.test('of many waiters exactly one is granted, and the others are told its result', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiters = Array.from({ length: 100 }, (_, index) => attach(effect, { owner: `waiter-${index}` }))
  await waiting(100, effect_id)
  await release(held)
  const { answer } = await Promise.race(waiters)
  t.match(answer, { status: 201 })
  await waitFor(() => services.waiting.count() === 99)
  await complete({ effect_id, fencing_token: answer.body.fencing_token, result: 'once' })
  const statuses = (await Promise.all(waiters)).map(statusOf).toSorted()
  t.same(statuses, [...Array.from({ length: 99 }, () => '200 completed'), '201 claimed'])
})

t.test('doubt is told to all who wait', async (t) => {
  const before = events.length
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiters = [attach(effect), attach(effect)]
  await waiting(2, effect_id)
  await fail({ ...held, error: 'timeout', execution: 'unknown' })
  for (const { answer } of await Promise.all(waiters)) {
    t.match(answer, { status: 409, body: { code: 'effect-uncertain', outcome: 'uncertain', effect_id } })
  }
  t.equal(events.length - before, 1)
})

t.test(
  'at the end of the lease a waiter need not be told: under hold it is uncertain, under reclaim one is granted',
  async (t) => {
    const before = events.length
    const [strict, loose] = [newEffect(), newEffect('signal_consumption')]
    await hold(strict, { lease_seconds: 0.3 })
    const { effect_id } = await hold(loose, { lease_seconds: 0.3 })
    const [held, ...reclaimed] = [attach(strict), attach(loose), attach(loose), attach(loose)]
    const { answer } = await held
    t.match(answer, { status: 409, body: { code: 'effect-uncertain' } })
    const granted = await Promise.race(reclaimed)
    t.match(granted.answer, { status: 201, body: { attempt: 2 } })
    t.ok(granted.tookMs < soonMs)
    await waitFor(() => services.waiting.count() === 2)
    const told = events.slice(before).map(({ event }) => event)
    t.same(told.toSorted(), ['effect.reclaimed', 'effect.uncertain'])
    await complete({ effect_id, fencing_token: granted.answer.body.fencing_token })
    t.same((await Promise.all(reclaimed)).map(statusOf).toSorted(), ['200 completed', '200 completed', '201 claimed'])
  },
)

t.test('a renewed lease is waited for on', async (t) => {
  const effect = newEffect()
  const { held } = await hold(effect, { lease_seconds: 3 })
  const waiter = attach(effect)
  await waitFor(() => services.waiting.count() === 1)
  t.equal((await renew({ ...held, lease_seconds: 60 })).body.outcome, 'renewed')
  const early = await Promise.race([waiter, new Promise((resolve) => setTimeout(resolve, 3500, 'still waiting'))])
  t.equal(early, 'still waiting')
  await complete({ ...held, result: 1 })
  t.match((await waiter).answer, { status: 200, body: { result: 1 } })
})

t.test('when the wait is over a waiter is told of the holder as it is now', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect, { lease_seconds: 20 })
  const waiter = attach(effect, { wait_seconds: 1 })
  await waiting(1, effect_id)
  await renew({ ...held, lease_seconds: 100 })
  const { answer, tookMs } = await waiter
  t.match(answer, { status: 409, body: { code: 'effect-in-progress', outcome: 'in_progress', owner: 'bot-1' } })
  t.ok(answer.body.lease_remaining_seconds > 90 && answer.headers['retry-after'] !== undefined)
  t.ok(tookMs >= 1000 && tookMs < 4000, `${Math.round(tookMs)} ms`)
  t.equal(services.waiting.count(), 0)
})

t.test('what a person decides is told to those who wait', async (t) => {
  const resolutions = [
    ['executed', { result: 7 }, { status: 200, body: { outcome: 'completed', result: 7 } }],
    ['not_executed', {}, { status: 201, body: { outcome: 'claimed', attempt: 1 } }],
    ['abandoned', {}, { status: 200, body: { outcome: 'failed' } }],
  ] as const
  for (const [resolution, members, expected] of resolutions) {
    const effect = newEffect()
    const { effect_id, fencing_token } = await hold(effect)
    const waiter = attach(effect)
    await waiting(1, effect_id)
    const { status } = await resolve(effect_id, { resolution, reason: 'a test', fencing_token, ...members })
    t.equal(status, 200)
    t.match((await waiter).answer, expected, resolution)
  }
})

t.test('a waiter meets the breaker of its job as any claim does', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiters = [attach(effect, { job_type: 'orders' }), attach(effect, { job_type: 'orders' })]
  await waiting(2, effect_id)
  await call('POST', '/api/v1/breakers/orders/override', { action: 'open', reason: 'a test' })
  await release(held)
  for (const { answer } of await Promise.all(waiters)) {
    t.match(answer, { status: 409, body: { code: 'circuit-open', outcome: 'circuit_open' } })
  }
  t.match((await get(effect_id)).body, { state: 'released' }, 'the effect is untouched')
})

t.test('nobody waits in shadow mode', async (t) => {
  const effect = newEffect('quiet')
  await hold(effect)
  t.match((await attach(effect)).answer, { status: 201, body: { would_be: 'in_progress' } })
})

t.test('namespaces do not wake each other', async (t) => {
  const keys = [makeKey('worker', randomNamespace()), makeKey('worker', randomNamespace(), 'other')]
  const app = await startApp(t, { config: JSON.stringify({ auth: { keys: keys.map(({ entry }) => entry) } }) })
  const [mine, theirs] = keys.map(({ headers }) => ({ ...effectCalls(app, headers), ...waitingCalls(app, headers) }))
  const effect = newEffect()
  const [own, other] = [await mine!.hold(effect), await theirs!.hold(effect)]
  const waiters = [mine!.attach(effect), theirs!.attach(effect)]
  await waitFor(() => app.services.waiting.count() === 2)
  await theirs!.complete({ ...other.held, result: 'theirs' })
  t.match((await waiters[1])?.answer, { status: 200, body: { result: 'theirs' } })
  await mine!.complete({ ...own.held, result: 'mine' })
  t.match((await waiters[0])?.answer, { status: 200, body: { result: 'mine' } })
})

/** How often Redis ran each of the commands, together. */
async function calls(...commands: string[]): Promise<number> {
  const text = String(await redisCli(redis.port, 'INFO', 'commandstats'))
  const counts = commands.map((command) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(text)?.[1] ?? 0))
  return counts.reduce((total, count) => total + count, 0)
}

t.test('a claim that nobody waits for publishes nothing, and many waiters are woken by one message', async (t) => {
  const effect = newEffect()
  const before = await calls('publish')
  const alone = await hold(newEffect())
  await complete(alone.held)
  const { held, effect_id } = await hold(effect)
  await claim({ ...effect, owner: 'late' })
  t.equal(await calls('publish'), before)
  const waiters = Array.from({ length: 50 }, () => attach(effect))
  await waiting(50, effect_id)
  await complete(held)
  await Promise.all(waiters)
  t.equal(await calls('publish'), before + 1)
  t.equal(await calls('subscribe'), 1, 'one subscription for all of this file')
})

t.test('a waiter asks for nothing while it waits', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await hold(effect, { lease_seconds: 60 })
  const waiters = Array.from({ length: 20 }, () => attach(effect))
  await waiting(20, effect_id)
  const before = await calls('evalsha', 'eval')
  await new Promise((resolve) => setTimeout(resolve, 1000))
  t.equal(await calls('evalsha', 'eval'), before)
  await complete(held)
  await Promise.all(waiters)
})

t.test('a claim that waits is counted once, by what became of it', async (t) => {
  const metric = async (line: string) =>
    Number(new RegExp(`^${line} (\\d+)$`, 'm').exec((await call('GET', '/metrics')).text)?.[1] ?? 0)
  const claims = (outcome: string) => metric(`effectonce_claims_total{type="order_placement",outcome="${outcome}"}`)
  const before = [await claims('in_progress'), await claims('completed')]
  const effect = newEffect()
  const { held, effect_id } = await hold(effect)
  const waiter = attach(effect)
  await waiting(1, effect_id)
  t.equal(await metric('effectonce_waiters'), 1)
  t.match((await attach(effect, { wait_seconds: 0.1 })).answer, { status: 409 })
  await complete(held)
  await waiter
  t.equal(await metric('effectonce_waiters'), 0)
  t.same([await claims('in_progress'), await claims('completed')], [before[0]! + 1, before[1]! + 1])
})

t.test('a wait is no latency', async (t) => {
  const sum = async () =>
    Number(
      /^effectonce_request_seconds_sum\{route="\/api\/v1\/effects\/claim",status="409"\} (\S+)$/m.exec(
        (await call('GET', '/metrics')).text,
      )?.[1] ?? 0,
    )
  const effect = newEffect()
  await hold(effect)
  const before = await sum()
  const { tookMs } = await attach(effect, { wait_seconds: 2 })
  t.ok((await sum()) - before < tookMs / 1000 - 1, 'the two seconds do not count')
})
