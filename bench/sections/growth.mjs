/** How cost grows: with effects in flight, with job types, with replicas on a Cluster; and what a million in flight delay. */
import { setTimeout as delay } from 'node:timers/promises'
import { startOnCluster, startService, startServiceOn } from '../deployments.mjs'
import { closedLoad, doUnits } from '../load.mjs'
import { using } from '../pool.mjs'
import { cpuMicroseconds, family } from '../processes.mjs'
import { redis, redisPipeline } from '../redis.mjs'
import { batchClaims, batchOf, single } from '../scenarios.mjs'
import { spreadOfAll } from '../statistics.mjs'

const seedConnections = 4
const longLease = () => ',"lease_seconds":3600'

/** Puts effects in flight through the batch endpoint, until there are `count` in all. */
async function seedInFlight(target, count, leaseOf = longLease) {
  const present = await redis(target.redisPort, ['DBSIZE'])
  const missing = Math.ceil((count - present) / batchOf)
  if (missing <= 0) return
  await doUnits(target, batchClaims(target, leaseOf), { connections: seedConnections, count: missing })
}

/** Effects that are measured vanish after a second, so that the number of live ones stays what it is. */
const shortRetention = () => ',"retention_seconds":1'

/** Cost of an effect beside so many live ones, all of them in flight (the heavier case: record and index entry). */
export const growthOfEffects = ({ options, late, say }) =>
  using(
    () => startService(),
    async (target) => {
      const rows = []
      for (const effects of options.growth) {
        if (late()) return rows
        await seedInFlight(target, effects)
        rows.push({ effects, ...(await cost(target, single(target, shortRetention), options)) })
        say(`  ${effects} in flight`)
      }
      return rows
    },
  )

/** The spread of a few windows on one deployment. */
async function cost(target, scenario, options) {
  const windows = []
  for (let n = 0; n < options.growthWindows; n++) windows.push(await closedLoad(target, scenario, options))
  return spreadOfAll(windows)
}

/** Cost of an effect by how many job types its claims name. */
export const growthOfJobTypes = ({ options, late }) =>
  using(
    () => startService(),
    async (target) => {
      const rows = []
      for (const jobTypes of options.jobTypes) {
        if (late()) return rows
        const scenario = single(target, (number) => `,"job_type":"venue-${number % jobTypes}"`)
        rows.push({ jobTypes, ...(await cost(target, scenario, options)) })
      }
      return rows
    },
  )

const clusterNodes = 3

/** Cost of an effect by how many replicas of the service share a Cluster of three, the same connections over all of them. */
export async function growthOfReplicas({ options, late }) {
  const most = Math.max(...options.replicas)
  return using(
    () => startOnCluster(clusterNodes, most),
    async ({ services, redis: pids }) => {
      const windows = new Map(options.replicas.map((replicas) => [replicas, []]))
      for (let n = 0; n < options.growthWindows && !late(); n++) {
        for (const replicas of options.replicas) {
          const used = services.slice(0, replicas)
          const servers = used.flatMap((service) => service.servers)
          const target = { ports: used.flatMap(({ ports }) => ports), servers, redis: pids }
          windows.get(replicas).push(await closedLoad(target, clusterScenario(used), options))
        }
      }
      return [...windows].map(([replicas, taken]) => ({ replicas, ...spreadOfAll(taken) }))
    },
  )
}

/** Each replica was given a key of its own; a worker's connection leads to one replica for good. */
function clusterScenario(services) {
  const scenarios = services.map((service) => single(service))
  const unit = (worker, number) => scenarios[worker.index % scenarios.length].unit(worker, number)
  return { ...scenarios[0], unit }
}

const buckets = Array.from({ length: 256 }, (_, bucket) => bucket.toString(16).padStart(2, '0'))
/** Above every lease; uncertain effects stand behind it. */
const uncertainFrom = '1000000000000000'

/** Effects in progress, counted in the store itself. */
async function inProgress(port) {
  const counts = buckets.map((bucket) => ['ZCOUNT', `idempotency:{default:${bucket}}:inflight`, '0', uncertainFrom])
  return (await redisPipeline(port, counts)).reduce((sum, count) => sum + count, 0)
}

/** As a share of the effects: enough to tell how long all will take. */
const sampleShare = 0.02
const spareShare = 1.4
const leaseSecondsMin = 0.1
const idleSeconds = 2
const restartMs = 10_000

/**
 * A million leases that end together: how long a new process takes to start while they run, what looking for silent holders
 * costs meanwhile, and how fast they are settled afterwards (for `sweepSeconds` at the longest).
 */
export const sweepOfMany = ({ options, say }) =>
  using(
    () => startService(),
    async (target) => {
      const end = await leasesEndAt(target, options.sweepEffects)
      const secondsLeft = () => (end - Date.now()) / 1000
      const leaseOf = () => `,"lease_seconds":${Math.max(leaseSecondsMin, secondsLeft()).toFixed(1)}`
      await seedInFlight(target, options.sweepEffects, leaseOf)
      const effects = await inProgress(target.redisPort)
      const startSeconds = await startUp(target)
      const idle = await idleCost(target)
      say(`  ${effects} in flight, leases end in ${secondsLeft().toFixed(1)} s`)
      await delay(Math.max(0, secondsLeft() * 1000))
      return { effects, startSeconds, ...idle, ...(await settling(target, options)) }
    },
  )

/** When seeding will be over, and some more: from how long the first ones take. */
async function leasesEndAt(target, effects) {
  const start = performance.now()
  await seedInFlight(target, effects * sampleShare)
  const expectedMs = (performance.now() - start) / sampleShare
  return Date.now() + expectedMs * spareShare + restartMs + idleSeconds * 1000
}

/** Seconds from the start of a second process until it is ready, on the same Redis. */
async function startUp({ redisUrl }) {
  const start = performance.now()
  return using(
    () => startServiceOn({ REDIS_URL: redisUrl }, {}),
    () => (performance.now() - start) / 1000,
  )
}

/** Share of a processor, in per cent, that the service and Redis take while nobody asks anything. */
async function idleCost({ servers, redis: redisPids }) {
  const pids = [family(servers), redisPids]
  const before = pids.map(cpuMicroseconds)
  await delay(idleSeconds * 1000)
  const [service, store] = pids.map((of, at) => (cpuMicroseconds(of) - before[at]) / idleSeconds / 10_000)
  return { idleServicePercent: service, idleRedisPercent: store }
}

async function settling({ redisPort }, { sweepEffects, sweepSeconds }) {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  const first = await inProgress(redisPort)
  // Those of the sample have long leases.
  const sample = sweepEffects * sampleShare
  let left = first
  while (left > sample * 1.01 && seconds() < sweepSeconds) {
    await delay(200)
    left = await inProgress(redisPort)
  }
  const [settled, settleSeconds] = [first - left, seconds()]
  return { settled, settleSeconds, settledPerSecond: settled / settleSeconds, left: Math.max(0, left - sample) }
}
