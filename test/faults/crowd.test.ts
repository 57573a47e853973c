/**
 * 5,000 workers whom Redis has left waiting come back at once: they are served, in time, without a storm. How long that
 * takes is measured against what the same machine served the same workers just before, in calm.
 */
import t, { type Test } from 'tap'
import { fork, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Order, Round } from '../helpers/crowd-workers.ts'
import { redisCli, type RedisServer, startRedis, waitFor } from '../helpers/redis-server.ts'
import { infoNumber } from '../helpers/store-scene.ts'

t.setTimeout(300_000)

const workers = 5000
const awayMs = 3000
/** What the contract allows; a machine that took longer in calm is given in proportion. */
const healedMsMax = 5000
const answerMsMax = 3000
/** The last of those who were refused come back after `Retry-After`. */
const retryAfterMsMax = 3000

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url))

/** A process as an operator starts it; the arguments of this one make Node read TypeScript. */
async function startService(t: Test, redis: RedisServer): Promise<number> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-crowd-'))
  // This Redis comes back empty: what that means for grants is another test's matter.
  const CONFIG_FILE = path.join(dir, 'effectonce.yaml')
  await writeFile(CONFIG_FILE, 'redis: { failover_grace_seconds: 0 }\n')
  const env = { ...process.env, CONFIG_FILE, REDIS_URL: redis.url, PORT: '0', DATA_DIR: dir, LOG_LEVEL: 'silent' }
  const args = [...process.execArgv, here('../../src/main.ts')]
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))
    await rm(dir, { recursive: true, force: true })
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const [, port] = await waitFor(() => /listens on http:.*:(\d+)/.exec(said), 30_000)
  return Number(port)
}

/** The workers; each call is one round of them. */
async function startCrowd(t: Test, port: number) {
  const child = fork(here('../helpers/crowd-workers.ts'), { execArgv: process.execArgv, serialization: 'advanced' })
  t.teardown(() => void child.kill('SIGKILL'))
  const message = () => new Promise<unknown>((resolve) => child.once('message', resolve))
  await message()
  return (): Promise<Round> => {
    const round = message() as Promise<Round>
    child.send({ port, workers, deadlineMs: 60_000 } satisfies Order)
    return round
  }
}

const nowMs = (): number => performance.timeOrigin + performance.now()

/** When the share of them was granted, from `sinceMs` on; and the longest that anybody waited for an answer. */
function timesOf({ told }: Round, sinceMs: number, share = 0.99) {
  const good = told.flatMap(({ status, answeredMs }) => (status === 201 ? [answeredMs - sinceMs] : []))
  good.sort((one, other) => one - other)
  const longestMs = told.reduce((longest, { askedMs, answeredMs }) => Math.max(longest, answeredMs - askedMs), 0)
  return { grantedMs: good[Math.ceil(workers * share) - 1] ?? Infinity, longestMs }
}

/** Bytes that Redis was sent, and connections that were opened, so far. */
async function sent(redis: RedisServer) {
  const info = await redisCli(redis.port, 'INFO', 'stats')
  return { bytes: infoNumber(info, 'total_net_input_bytes'), opened: infoNumber(info, 'total_connections_received') }
}

const ways = {
  'Redis hung': { leave: 'SIGSTOP', comeBack: (redis: RedisServer) => redis.kill('SIGCONT') },
  'Redis was killed': { leave: 'SIGKILL', comeBack: (redis: RedisServer) => redis.restart() },
} as const

for (const [name, { leave, comeBack }] of Object.entries(ways)) {
  t.test(`${name}: all are served when it is back`, { timeout: 240_000 }, async (t) => {
    const redis = await startRedis(t)
    const crowd = await startCrowd(t, await startService(t, redis))
    await crowd()
    const before = await sent(redis)
    const calmSinceMs = nowMs()
    const calmRound = await crowd()
    const calm = timesOf(calmRound, calmSinceMs)
    const bytesOfOne = ((await sent(redis)).bytes - before.bytes) / calmRound.told.length

    await redis.kill(leave)
    const waiting = crowd()
    await sleep(awayMs)
    await comeBack(redis)
    const healedMs = nowMs()
    const atHealing = await sent(redis)
    const round = await waiting
    const healed = timesOf(round, healedMs)
    const after = await sent(redis)

    t.equal(round.granted, workers, 'nobody is left behind')
    const answers = new Set(round.told.map(({ status }) => status))
    t.same([...answers].sort(), [201, 503], 'whoever is not granted is told to come back, and no connection breaks')
    const inTimeMs = Math.max(healedMsMax, retryAfterMsMax + 2 * calm.grantedMs)
    t.ok(healed.grantedMs < inTimeMs, `99 % granted after ${Math.round(healed.grantedMs)} ms, ${inTimeMs} allowed`)
    const answeredMs = Math.max(answerMsMax, 2 * calm.longestMs)
    t.ok(healed.longestMs < answeredMs, `longest answer ${Math.round(healed.longestMs)} ms, ${answeredMs} allowed`)
    const ask = round.told.filter(({ askedMs }) => askedMs > healedMs)
    const bytes = (after.bytes - atHealing.bytes) / Math.max(ask.length, workers)
    t.ok(bytes < 2 * bytesOfOne, `${Math.round(bytes)} bytes to Redis for a call, ${Math.round(bytesOfOne)} in calm`)
    const opened = after.opened - (leave === 'SIGKILL' ? 0 : before.opened)
    t.ok(opened < 40, `${opened} connections were opened`)
    t.comment({ calm, healed, calls: round.told.length, lagMs: round.lagMs, bytesOfOne, bytes, opened })
  })
}
