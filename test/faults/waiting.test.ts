/** Waiters are told whatever breaks meanwhile: none is lost, none is granted that has gone, and ten thousand cost little. */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Answer, type AppOptions, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { startCluster } from '../helpers/redis-cluster.ts'
import { startSentinel } from '../helpers/redis-sentinel.ts'
import { redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { type Settled, waitingCalls } from '../helpers/waiting.ts'

/** Far below the 20 s that the waiters of these tests are ready to wait. */
const soonMs = 10_000

async function start(t: Test, options: AppOptions) {
  const app = await startApp(t, options)
  return { ...app, ...effectCalls(app), ...waitingCalls(app) }
}

const statusOf = ({ answer: { status, body } }: Settled) => `${status} ${String(body.outcome)}`
const parked = ({ services }: Pick<TestApp, 'services'>, count: number) =>
  waitFor(() => services.waiting.count() === count, soonMs)

/** Again, for as long as a busy machine keeps Redis from answering. */
async function insist(call: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await call()
    if (answer.status !== 503) return answer
  }
}

/** What CLIENT LIST shows of those who hear the channel. */
async function subscribers(port: number): Promise<number> {
  return String(await redisCli(port, 'CLIENT', 'LIST', 'TYPE', 'pubsub'))
    .split('\n')
    .filter(Boolean).length
}

const redis = await startRedis(t, { args: ['--appendonly', 'yes'] })
// Redis is stopped, started and hung here: what it may have lost is another test's matter.
const config = 'redis: {failover_grace_seconds: 0}'
const [one, two] = await Promise.all([start(t, { redis, config }), start(t, { redis, config })])
const both = [one, two]

t.test('a waiter is told of what happens at the other process', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await one.hold(effect)
  const waiter = two.attach(effect)
  await two.waiting(1, effect_id)
  await one.complete({ ...held, result: 1 })
  const { answer, tookMs } = await waiter
  t.match(answer, { status: 200, body: { result: 1 } })
  t.ok(tookMs < soonMs)
})

t.test('of waiters at both exactly one is granted, again and again', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await one.hold(effect)
  const waiters = Array.from({ length: 20 }, (_, index) => both[index % 2]!.attach(effect, { owner: `w${index}` }))
  await Promise.all(both.map((process) => parked(process, 10)))
  let token = held.fencing_token
  const open = new Set(waiters)
  for (let turn = 0; turn < 5; turn++) {
    await one.release({ effect_id, fencing_token: token })
    const { waiter, settled } = await Promise.race([...open].map(async (waiter) => ({ waiter, settled: await waiter })))
    t.equal(statusOf(settled), '201 claimed')
    token = settled.answer.body.fencing_token
    open.delete(waiter)
    await waitFor(() => one.services.waiting.count() + two.services.waiting.count() === open.size)
  }
  await two.complete({ effect_id, fencing_token: token, result: 1 })
  t.same(new Set((await Promise.all(open)).map(statusOf)), new Set(['200 completed']))
})

t.test('nobody is missed between asking and listening, whatever the order', async (t) => {
  const effects = Array.from({ length: 80 }, () => newEffect())
  const settled = effects.map(async (effect, index) => {
    const process = both[index % 2]!
    const claim_id = randomUUID()
    const { body } = await insist(() => process.claim({ ...effect, claim_id }))
    const attach = (at: typeof one) => {
      const members = { claim_id: randomUUID() }
      return insist(async () => (await at.attach(effect, members)).answer)
    }
    const waiters = both.map(attach)
    const { effect_id, fencing_token } = body
    const completed = insist(() => one.complete({ effect_id, fencing_token, result: index }))
    const late = attach(two)
    await completed
    return Promise.all([...waiters, late])
  })
  const startMs = performance.now()
  const answers = (await Promise.all(settled)).flat()
  t.same(new Set(answers.map(({ status, body }) => `${status} ${body.outcome}`)), new Set(['200 completed']))
  t.ok(performance.now() - startMs < soonMs)
})

t.test('a lost subscription comes back, and what it missed is asked for', async (t) => {
  for (let round = 0; round < 10; round++) {
    const effect = newEffect()
    const { held, effect_id } = await one.hold(effect)
    const waiters = [one.attach(effect), two.attach(effect)]
    await Promise.all(both.map((process) => process.waiting(1, effect_id)))
    await redisCli(redis.port, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
    if (round % 2 === 0) await waitFor(async () => (await subscribers(redis.port)) === 2)
    await one.complete({ ...held, result: round })
    for (const { answer, tookMs } of await Promise.all(waiters)) {
      t.match(answer, { status: 200, body: { result: round } })
      t.ok(tookMs < soonMs)
    }
  }
})

/** How often Redis ran each of the commands, together. */
async function calls(...commands: string[]): Promise<number> {
  const text = String(await redisCli(redis.port, 'INFO', 'commandstats'))
  const counts = commands.map((command) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(text)?.[1] ?? 0))
  return counts.reduce((total, count) => total + count, 0)
}

t.test(
  'ten thousand wait at once: they ask for nothing, one message wakes those of an effect, and all are told',
  async (t) => {
    const [total, wave] = [10_000, 500]
    const held = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const effect = newEffect()
        const members = { claim_id: randomUUID(), lease_seconds: 600 }
        const { body } = await insist(() => one.claim({ ...effect, ...members }))
        return { effect, held: { effect_id: body.effect_id, fencing_token: body.fencing_token } }
      }),
    )
    const waiters: Promise<Answer>[] = []
    while (waiters.length < total) {
      for (let index = 0; index < wave; index++) {
        const { effect } = held[index % held.length]!
        const members = { claim_id: randomUUID(), wait_seconds: 60 }
        waiters.push(insist(async () => (await one.attach(effect, members)).answer))
      }
      await waitFor(() => one.services.waiting.count() === waiters.length, 30_000)
    }
    const [asked, published] = [await calls('evalsha', 'eval'), await calls('publish')]
    await new Promise((resolve) => setTimeout(resolve, 1000))
    t.ok((await calls('evalsha', 'eval')) - asked < held.length, 'no more than the last of those who came')
    await Promise.all(held.map(({ held }) => insist(() => two.complete({ ...held, result: 1 }))))
    const answers = await Promise.all(waiters)
    t.same(new Set(answers.map(({ status, body }) => `${status} ${body.outcome}`)), new Set(['200 completed']))
    t.equal((await calls('publish')) - published, held.length)
    t.equal(one.services.waiting.count(), 0)
  },
)

t.test('waiters outlive a restart of Redis', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await one.hold(effect, { lease_seconds: 60 })
  const waiters = [one.attach(effect), two.attach(effect)]
  await Promise.all(both.map((process) => process.waiting(1, effect_id)))
  await redis.restart()
  await waitFor(async () => (await one.complete({ ...held, result: 'kept' })).status === 200, soonMs)
  for (const { answer } of await Promise.all(waiters)) t.match(answer, { status: 200, body: { result: 'kept' } })
})

t.test('who asks a dead Redis is told so, and the others wait on', async (t) => {
  const effect = newEffect('signal_consumption')
  const { effect_id } = await one.hold(effect, { lease_seconds: 2 })
  const [first, second] = await one.attachInOrder(effect, 2, effect_id)
  await redis.kill('SIGSTOP')
  const { answer } = await first!
  await redis.kill('SIGCONT')
  t.match(answer, { status: 503, body: { code: 'store-unavailable', reason: 'outcome_unknown' } })
  t.match((await second!).answer, { status: 201, body: { attempt: 2 } }, 'nothing was granted behind the 503')
})

t.test('a process that drains answers its waiters at once, and lets nobody wait', async (t) => {
  const leaving = await start(t, { redis, config })
  const effect = newEffect()
  const { effect_id } = await one.hold(effect)
  const waiters = [leaving.attach(effect), leaving.attach(effect)]
  await leaving.waiting(2, effect_id)
  await leaving.app.close()
  for (const { answer, tookMs } of await Promise.all(waiters)) {
    t.match(answer, { status: 409, body: { code: 'effect-in-progress', outcome: 'in_progress', effect_id } })
    t.ok(answer.body.lease_remaining_seconds > 0 && tookMs < soonMs)
  }
  t.equal(leaving.services.waiting.join('key', { gone: () => false, whenGone: () => 0, waited: () => 0 }), undefined)
})

type Sent = { request: http.ClientRequest; status: Promise<number | string>; text: () => string }

/** A claim over a socket of its own, which can be closed. */
function sendClaim(port: number, body: object): Sent {
  let text = ''
  const request = http.request({
    ...{ port, host: '127.0.0.1', method: 'POST', path: '/api/v1/effects/claim', agent: false },
    headers: { 'content-type': 'application/json' },
  })
  const status = new Promise<number | string>((resolve) => {
    request.on('error', (error) => resolve(error.message))
    request.on('response', (response) => {
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve(response.statusCode ?? 0))
    })
  })
  request.end(JSON.stringify({ owner: 'socket', claim_id: randomUUID(), wait_seconds: 30, ...body }))
  return { request, status, text: () => text }
}

async function listen({ app }: Pick<TestApp, 'app'>): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

const connections = ({ app }: Pick<TestApp, 'app'>): Promise<number> =>
  new Promise((resolve, reject) =>
    app.server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  )

const port = await listen(one)

t.test('a waiter whose connection is closed is passed over', async (t) => {
  const effect = newEffect()
  const { held, effect_id } = await one.hold(effect)
  const sent: Sent[] = []
  for (const owner of ['gone', 'next', 'last']) {
    sent.push(sendClaim(port, { ...effect, owner }))
    await parked(one, sent.length)
  }
  await one.waiting(3, effect_id)
  sent[0]?.request.destroy()
  await parked(one, 2)
  await one.release(held)
  t.equal(await sent[1]?.status, 201)
  t.match((await one.get(effect_id)).body, { owner: 'next', attempt: 1 })
  sent[2]?.request.destroy()
  await parked(one, 0)
})

t.test(
  'a grant that finds nobody any more stays with its claim_id: who sends it again has it, and nobody else',
  async (t) => {
    const effect = newEffect('signal_consumption')
    const claim = { ...effect, owner: 'socket', claim_id: randomUUID() }
    const leaseMs = 1000
    const grantedMs = performance.now()
    const { effect_id } = await one.hold(effect, { lease_seconds: leaseMs / 1000 })
    const { request } = sendClaim(port, claim)
    await one.waiting(1, effect_id)
    await redis.kill('SIGSTOP')
    // The waiter asks when the lease is over, and is answered when Redis goes on; its caller has gone, and sends it again.
    await waitFor(() => performance.now() > grantedMs + leaseMs + 200)
    request.destroy()
    await waitFor(async () => (await connections(one)) === 0)
    const again = insist(() => one.claim(claim))
    await redis.kill('SIGCONT')
    const { status, body } = await again
    t.equal(status, 201)
    await parked(one, 0)
    const other = await insist(() => two.claim({ ...effect, owner: 'other', claim_id: randomUUID() }))
    t.equal(other.body.code, 'effect-in-progress')
    t.match((await insist(() => two.get(effect_id))).body, { state: 'in_progress', fencing_token: body.fencing_token })
  },
)

t.test('a connection stays open for as long as its caller waits, and for the calls behind', async (t) => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const { hold } = one
  const effect = newEffect()
  await hold(effect, { lease_seconds: 60 })
  const post = (body: object) =>
    new Promise<number>((resolve, reject) => {
      const options = { port, host: '127.0.0.1', agent, method: 'POST', path: '/api/v1/effects/claim' }
      const request = http.request({ ...options, headers: { 'content-type': 'application/json' } }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0))
      })
      request.on('error', reject).end(JSON.stringify({ owner: 'o', claim_id: randomUUID(), ...body }))
    })
  // Longer than the server keeps a silent connection.
  t.equal(await post({ ...effect, wait_seconds: 11 }), 409)
  t.equal(await post(newEffect()), 201)
  agent.destroy()
})

t.test('in a Cluster waiters on every server are told, also when the one that was listened to has died', async (t) => {
  const cluster = await startCluster(t, { primaries: 3, replicas: 1 })
  const app = await start(t, { place: cluster.place })
  const round = async (result: number) => {
    const effects = Array.from({ length: 12 }, () => newEffect())
    const held = await Promise.all(effects.map((effect) => app.hold(effect, { lease_seconds: 60 })))
    const waiters = effects.map((effect) => app.attach(effect, { wait_seconds: 60 }))
    await parked(app, effects.length)
    return async () => {
      const complete = async (index: number) => (await app.complete({ ...held[index]!.held, result })).status === 200
      await Promise.all(held.map((_, index) => waitFor(() => complete(index), 30_000)))
      for (const { answer } of await Promise.all(waiters)) t.match(answer, { status: 200, body: { result } })
    }
  }
  await (
    await round(1)
  )()
  const listened = async () => {
    for (const node of cluster.primaries) if ((await subscribers(node.port)) > 0) return node
    return undefined
  }
  const node = await waitFor(listened)
  const finish = await round(2)
  await new Promise((resolve) => setTimeout(resolve, 500)) // What was acknowledged shall be at the replica.
  await node.kill('SIGKILL')
  await finish()
})

t.test('behind Sentinels waiters are told by the new primary', async (t) => {
  const sentinel = await startSentinel(t, { replicas: 1 })
  const app = await start(t, { place: sentinel.place })
  const effect = newEffect()
  const { held } = await app.hold(effect, { lease_seconds: 60 })
  const waiter = app.attach(effect, { wait_seconds: 60 })
  await parked(app, 1)
  await new Promise((resolve) => setTimeout(resolve, 500)) // What was acknowledged shall be at the replica.
  await sentinel.failover()
  await waitFor(async () => (await app.complete({ ...held, result: 1 })).status === 200, 30_000)
  t.match((await waiter).answer, { status: 200, body: { result: 1 } })
})
