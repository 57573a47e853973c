/** Two real processes of the service on one Redis: one winner whoever asks, and nothing is lost when one is killed. */
import t, { type Test } from 'tap'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const racers = 200

type Reply = { status: number; body: Record<string, unknown> }
type Process = {
  post: (path: string, body: object) => Promise<Reply>
  get: (path: string) => Promise<Reply>
  kill: () => Promise<void>
}

/** A process as an operator starts it; the arguments of this one make Node read TypeScript. */
async function startService(t: Test, redis: RedisServer): Promise<Process> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-race-'))
  const env = { ...process.env, REDIS_URL: redis.url, PORT: '0', DATA_DIR: dir, LOG_LEVEL: 'silent' }
  const child = spawn(process.execPath, [...process.execArgv, main], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const kill = () => end(child)
  t.teardown(async () => {
    await kill()
    await rm(dir, { recursive: true, force: true })
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const [, address] = await waitFor(() => /listens on (http:\S+)/.exec(said), 60_000)
  const call = async (url: string, init?: RequestInit): Promise<Reply> => {
    const response = await fetch(`${address}/api/v1/effects/${url}`, init)
    return { status: response.status, body: (await response.json()) as Reply['body'] }
  }
  const headers = { 'content-type': 'application/json' }
  return {
    post: (url, body) => call(url, { method: 'POST', headers, body: JSON.stringify(body) }),
    get: (url) => call(url),
    kill,
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}

/** Everybody at once, half of them at each process, each as a caller of its own. */
const race = (services: Process[], effect: object) =>
  Promise.all(
    Array.from({ length: racers }, (_, index) =>
      services[index % services.length]!.post('claim', { ...effect, owner: `bot-${index}`, claim_id: randomUUID() }),
    ),
  )

t.test('two processes', async (t) => {
  const redis = await startRedis(t)
  const [one, two] = await Promise.all([startService(t, redis), startService(t, redis)])
  const services = [one, two]

  t.test('of two hundred racers for one effect one wins', async (t) => {
    for (let round = 0; round < 5; round++) {
      const effect = { type: 'order_placement', entity: randomUUID() }
      const replies = await race(services, effect)
      const winners = replies.filter(({ status }) => status === 201)
      t.equal(winners.length, 1)
      const others = replies.filter(({ status, body }) => status === 409 && body['code'] === 'effect-in-progress')
      t.equal(others.length, racers - 1)
      t.match(winners[0]?.body, { outcome: 'claimed', attempt: 1 })
      const owners = new Set(others.map(({ body }) => body['owner']))
      t.equal(owners.size, 1, 'all are told of the same holder')
    }
  })

  t.test('of two hundred racers for an effect whose holder fell silent under reclaim one wins', async (t) => {
    const effect = { type: 'signal_consumption', entity: randomUUID() }
    const { body } = await one.post('claim', { ...effect, owner: 'silent', lease_seconds: 0.1 })
    await waitFor(async () => (await two.get(String(body['effect_id']))).body['state'] === 'released')
    const replies = await race(services, effect)
    const winners = replies.filter(({ status }) => status === 201)
    t.equal(winners.length, 1)
    t.match(winners[0]?.body, { attempt: 2 })
    t.ok(Number(winners[0]?.body['fencing_token']) > Number(body['fencing_token']))
  })

  t.test('of many completions with different results one is kept', async (t) => {
    const effect = { type: 'order_placement', entity: randomUUID() }
    const { body } = await one.post('claim', { ...effect, owner: 'bot' })
    const { fencing_token } = body
    const complete = (result: number) => services[result % 2]!.post('complete', { ...effect, fencing_token, result })
    const replies = await Promise.all(Array.from({ length: 50 }, (_, result) => complete(result)))
    t.equal(replies.filter(({ status }) => status === 200).length, 1)
    t.equal(replies.filter(({ body }) => body['code'] === 'result-conflict').length, 49)
    const kept = replies.findIndex(({ status }) => status === 200)
    t.match((await two.post('claim', { ...effect, owner: 'late' })).body, { outcome: 'completed', result: kept })
  })

  t.test('a process that is killed between claim and complete loses nothing', async (t) => {
    const effect = { type: 'order_placement', entity: randomUUID() }
    const { body } = await one.post('claim', { ...effect, owner: 'bot' })
    await one.kill()
    const { fencing_token } = body
    t.equal((await two.post('claim', { ...effect, owner: 'other' })).body['code'], 'effect-in-progress')
    t.match(await two.post('renew', { ...effect, fencing_token }), { status: 200 })
    t.match(await two.post('complete', { ...effect, fencing_token, result: 7 }), { status: 200 })
    t.match(await two.post('claim', { ...effect, owner: 'other' }), { status: 200, body: { result: 7, attempt: 1 } })
  })
})
