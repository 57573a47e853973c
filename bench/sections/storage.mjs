/** What effects leave behind: bytes in Redis, memory of the service. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '../client.mjs'
import { startService } from '../deployments.mjs'
import { doUnits } from '../load.mjs'
import { using } from '../pool.mjs'
import { family, residentMebibytes } from '../processes.mjs'
import { redisNumber, redisPipeline, startRedis } from '../redis.mjs'
import { resultOf } from '../result.mjs'
import { batch, batchOf, waitersOf } from '../scenarios.mjs'

const batchConnections = 4
const retentionSeconds = 259_200
const pipeline = 1000
/** A small payload is compared, so the record holds its fingerprint. */
const payload = ',"payload":{"symbol":"BTCUSDT","side":"BUY","quantity":"0.001"}'

const settleInBatches = (target, effects) =>
  doUnits(target, batch(target, payload), { connections: batchConnections, count: Math.ceil(effects / batchOf) })

/** Bytes an effect, completed, with owner, fingerprint, token and times, and bare `SET`s of the same 200 bytes beside it. */
export const bytesPerEffect = ({ options }) =>
  using(
    () => startService(),
    async (target) => {
      const effects = Math.ceil(options.bytesEffects / batchOf) * batchOf
      // The first ones also pay for connections, scripts and what the service keeps of itself.
      await settleInBatches(target, batchOf)
      const ours = await growth(target.redisPort, effects, () => settleInBatches(target, effects))
      const short = await bareSets(effects, (n) => `idempotency:order_placement:order-${digits(n, 12)}`)
      const long = await bareSets(effects, (n) => `idempotency:{default:00}:effect:order_placement.${digits(n, 64)}`)
      return { effects, ours, short, long }
    },
  )

const digits = (number, length) => String(number).padStart(length, '0')

async function growth(port, effects, act) {
  const before = await redisNumber(port, 'memory', 'used_memory')
  await act()
  return ((await redisNumber(port, 'memory', 'used_memory')) - before) / effects
}

/** In a server of their own, so that both grow the same tables from nothing. */
const bareSets = (effects, keyOf) =>
  using(startRedis, ({ port }) =>
    growth(port, effects, async () => {
      for (let first = 0; first < effects; first += pipeline) {
        const numbers = Array.from({ length: Math.min(pipeline, effects - first) }, (_, at) => first + at)
        const value = resultOf('order')
        await redisPipeline(
          port,
          numbers.map((number) => ['SET', keyOf(number), value, 'EX', retentionSeconds]),
        )
      }
    }),
  )

const parts = 4

/** Resident memory of the service at the start, after each quarter of the effects, and idle a little later. */
export const memoryOverEffects = ({ options, late }) =>
  using(
    () => startService(),
    async (target) => {
      const resident = () => residentMebibytes(family(target.servers))
      const points = [{ effects: 0, mebibytes: resident() }]
      for (let part = 1; part <= parts && !late(); part++) {
        await settleInBatches(target, options.memoryEffects / parts)
        points.push({ effects: (options.memoryEffects * part) / parts, mebibytes: resident() })
      }
      return points
    },
  )

const waitersPerEffect = 100
const answerBytes = 4096

/** Resident memory with so many calls waiting, and how long their answers take once the effects are completed. */
export const memoryOfWaiters = ({ options }) =>
  using(
    () => startService(),
    async (target) => {
      const { hold, wait, complete } = waitersOf(target)
      const resident = () => residentMebibytes(family(target.servers))
      const before = resident()
      const connect = () => Client.connect(target.ports[0], answerBytes)
      const holder = await connect()
      const clients = []
      try {
        const effects = Math.ceil(options.waiters / waitersPerEffect)
        const answers = []
        const tokens = []
        for (let effect = 0; effect < effects; effect++) {
          tokens.push(await hold(holder, effect))
          const mine = await Promise.all(Array.from({ length: waitersPerEffect }, () => connect()))
          clients.push(...mine)
          answers.push(...mine.map((client, at) => wait(client, effect, at)))
        }
        answers.forEach((answer) => answer.catch(() => undefined))
        await delay(1000)
        const waiting = resident()
        const start = performance.now()
        for (const [effect, token] of tokens.entries()) await complete(holder, effect, token)
        await Promise.all(answers)
        return { waiters: answers.length, before, waiting, answeredSeconds: (performance.now() - start) / 1000 }
      } finally {
        for (const client of [holder, ...clients]) client.close()
      }
    },
  )
