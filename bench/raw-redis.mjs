/** Redis without HTTP: redis-benchmark, pipelined by 16. What the store alone can do, and what a batch is compared with. */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { cpuMicroseconds } from './processes.mjs'
import { persistence, redis, startRedis } from './redis.mjs'
import { resultOf } from './result.mjs'

const pipeline = 16
const connections = 50
/** redis-benchmark puts 12 digits in its place, a new name (of 2^31) each time: all but a few hundredths of a per cent are new. */
const random = '__rand_int__'
const names = 2 ** 31 - 1
const newNamesMin = 0.99
/** About what one server does; only the length of a run follows from it. */
const expectedPerSecond = { set: 250_000, evalsha: 90_000 }

const setCommand = ['SET', `idempotency:order_placement:order-${random}`, resultOf('order'), 'EX', '259200', 'NX']

export const setBenchmark = () => startRaw('set', async () => setCommand)

export const evalshaBenchmark = () => startRaw('evalsha', claimCommand)

/** A Redis of its own; `run(seconds)` answers what a window of load answers. */
async function startRaw(kind, commandOn) {
  const server = await startRedis(persistence.none)
  const command = await commandOn(server)
  return {
    stop: server.stop,
    async run(seconds) {
      await redis(server.port, ['FLUSHALL', 'SYNC'])
      const count = Math.round(expectedPerSecond[kind] * seconds)
      const before = cpuMicroseconds([server.pid])
      const perSecond = await redisBenchmark(server.port, count, command)
      const spent = (cpuMicroseconds([server.pid]) - before) / count
      await expectNewNames(server.port, count)
      return { effectsPerSecond: perSecond, redisMicrosecondsPerEffect: spent, microsecondsPerEffect: spent }
    },
  }
}

/** The program does not look at replies: as many names must be in the store as it has sent. */
async function expectNewNames(port, count) {
  const found = await redis(port, ['DBSIZE'])
  if (found < count * newNamesMin) throw new Error(`redis-benchmark made ${found} names with ${count} commands`)
}

/** Answers commands a second, as the program itself says. */
function redisBenchmark(port, count, command) {
  const load = ['-c', String(connections), '-P', String(pipeline), '-n', String(count), '-r', String(names)]
  const child = spawn('redis-benchmark', ['-p', String(port), ...load, '--csv', ...command])
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => {
      const perSecond = Number(/",?"([\d.]+)"/.exec(said.split('\n').at(-2) ?? '')?.[1])
      if (perSecond > 0) resolve(perSecond)
      else reject(new Error(`redis-benchmark: ${said.slice(-400)}`))
    })
  })
}

const build = (file) => import(pathToFileURL(path.join(path.dirname(import.meta.dirname), 'dist/src', file)).href)

/** What a new effect's claim sends; what is not named here is sent empty. */
const claimArguments = {
  deadline_us: '9000000000000000',
  floor_us: '0',
  owner: 'bench',
  claim: 'c'.repeat(22),
  entity: `"order-${random}"`,
}

const terms = {
  ...{
    lease_ms: 30_000,
    retention_ms: 259_200_000,
    policy: 'hold',
    max_attempts: 3,
    job_type: '',
    durability: 'primary',
  },
  ...{ has_result: false, wait: false, gate: false },
}
const unguarded = { absent_refused: false, over_budget: false, clock_step: '' }

/** The service's own claim script, as its build has it, with one new effect a command. */
async function claimCommand({ port }) {
  const [{ claimTerms, effectClaim }, { loadPreludes, scriptText }] = await Promise.all([
    build('effects/scripts.js'),
    build('redis/scripts.js'),
  ])
  const effectId = `order_placement.${'0'.repeat(52)}${random}`
  const keys = [`idempotency:{default:00}:effect:${effectId}`, 'idempotency:{default:00}:inflight']
  const given = { ...claimArguments, effect_id: effectId, terms: claimTerms(terms, unguarded) }
  const values = effectClaim.args.map((name) => given[name] ?? '')
  const sha = await redis(port, ['SCRIPT', 'LOAD', scriptText(effectClaim, loadPreludes())])
  return ['EVALSHA', sha, String(keys.length), ...keys, ...values]
}
