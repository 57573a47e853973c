/**
 * The contenders of the rounds: a deployment (shared by those that name the same), what is asked of it, and how it is called
 * in the tables. Those without HTTP bring a `raw` of their own.
 */
import { startPeer, startRestate, startService } from './deployments.mjs'
import { doUnits } from './load.mjs'
import { evalshaBenchmark, setBenchmark } from './raw-redis.mjs'
import { persistence } from './redis.mjs'
import * as scenarios from './scenarios.mjs'

const settledEffects = 5000
const settlingConnections = 20
const jobTypes = 10

/** How each deployment is started, by name. */
export const deployments = {
  'bare-http': () => startPeer('bare-http'),
  'bare-fastify': () => startPeer('bare-fastify'),
  hand: () => startPeer('hand-written', { redisArgs: persistence.none }),
  'hand-pipelined': () => startPeer('hand-written', { redisArgs: persistence.none, args: ['autopipelining'] }),
  'hand-always': () => startPeer('hand-written', { redisArgs: persistence.always }),
  'node-idempotency': () => startPeer('node-idempotency', { redisArgs: persistence.none, path: '/effects' }),
  'node-idempotency-always': () => startPeer('node-idempotency', { redisArgs: persistence.always, path: '/effects' }),
  powertools: () => startPeer('powertools', { redisArgs: persistence.none, path: '/effects' }),
  restate: () => startRestate(),
  service: () => startService(),
  /** Of its own: claims that nobody completes stay in flight, and would be swept while others are measured. */
  'service-batch': () => startService(),
  'service-open': () => startService({ auth: false }),
  'service-everysec': () => startService({ redis: 'everysec' }),
  'service-always': () => startService({ redis: 'always' }),
  'service-fsynced': () => startService({ redis: 'always', durability: 'fsynced' }),
  'service-replicated': () => startService({ redis: 'replicated', durability: { replicated: 1 } }),
  'service-two': () => startService({ processes: 2 }),
}

/** Settles some effects once, and from then on asks for them again and again. */
function repeats(first, again) {
  return async (target) => {
    const settled = []
    const { unit } = first(target)
    const settle = async (worker, number) => {
      await unit(worker, number)
      settled.push(number)
    }
    await doUnits(target, { unit: settle }, { connections: settlingConnections, count: settledEffects })
    return again(target, settled)
  }
}

const libraryCall = (target) => scenarios.libraryCall(target)
const libraryRepeat = (target, settled) =>
  scenarios.libraryCall(target, (number) => settled[number % settled.length], 200)
const serviceDuplicates = repeats(scenarios.single, scenarios.duplicates)
const libraryDuplicates = repeats(libraryCall, libraryRepeat)
const restateCall = (target) => scenarios.libraryCall(target, undefined, 200)
const withJobType = (target) => scenarios.single(target, (number) => `,"job_type":"venue-${number % jobTypes}"`)
const longClaims = (target) => scenarios.batchClaims(target, () => ',"lease_seconds":3600')
const payloadOf = (number) => `,"payload":{"symbol":"BTCUSDT","side":"BUY","quantity":"0.001","client":${number}}`
const withPayload = (target) => scenarios.single(target, payloadOf)

const of = (name, deployment, scenario, title, note = '') => ({ name, deployment, scenario, title, note })

export const contenders = [
  of('bare-http', 'bare-http', scenarios.bare, 'bare node:http, no store'),
  of('bare-fastify', 'bare-fastify', scenarios.bare, 'bare Fastify, AJV body, no store'),
  of('hand', 'hand', scenarios.single, 'hand-written `SET NX`, `SET`'),
  of('hand-pipelined', 'hand-pipelined', scenarios.single, 'hand-written, autopipelining'),
  of('hand-always', 'hand-always', scenarios.single, 'hand-written, `always`'),
  of('hand-duplicates', 'hand', serviceDuplicates, 'hand-written, duplicates'),
  of('node-idempotency', 'node-idempotency', libraryCall, 'node-idempotency', 'one request an effect'),
  of('node-idempotency-always', 'node-idempotency-always', libraryCall, 'node-idempotency, `always`'),
  of('node-idempotency-duplicates', 'node-idempotency', libraryDuplicates, 'node-idempotency, duplicates'),
  of('powertools', 'powertools', libraryCall, 'AWS Powertools', 'one request an effect'),
  of('restate', 'restate', restateCall, 'Restate, one durable step', 'its log is fsynced'),
  of('single', 'service', scenarios.single, 'Effectonce, claim and complete'),
  of('batch', 'service-batch', scenarios.batch, 'Effectonce, batches of 100'),
  of('batch-claims', 'service-batch', longClaims, 'Effectonce, batches of 100 claims', 'claims only'),
  of('duplicates', 'service', serviceDuplicates, 'Effectonce, duplicates'),
  of('waiting', 'service', scenarios.waiting, 'Effectonce, one waits for each', 'three requests an effect'),
  of('payload', 'service', withPayload, 'Effectonce, with a payload to compare'),
  of('breaker', 'service', withJobType, 'Effectonce, breaker on', `${jobTypes} job types`),
  of('open', 'service-open', scenarios.single, 'Effectonce, without authentication'),
  of('everysec', 'service-everysec', scenarios.single, 'Effectonce, `everysec`'),
  of('always', 'service-always', scenarios.single, 'Effectonce, `always`'),
  of('fsynced', 'service-fsynced', scenarios.single, 'Effectonce, `always`, `fsynced`', 'looks after each flush'),
  of('replicated', 'service-replicated', scenarios.single, 'Effectonce, `replicated: 1`', 'two Redis processes'),
  of('two-processes', 'service-two', scenarios.single, 'Effectonce, `PROCESSES=2`'),
  { name: 'raw-set', title: 'redis-benchmark `SET NX`, pipelined by 16', note: 'no HTTP', raw: setBenchmark },
  {
    name: 'raw-evalsha',
    title: 'redis-benchmark `EVALSHA`, pipelined by 16',
    note: 'our claim script',
    raw: evalshaBenchmark,
  },
]
