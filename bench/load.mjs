/**
 * Load on one contender: workers that ask, check and ask again (closed), or effects that arrive at a given rate whether or
 * not the last ones are done (open). What is counted ended inside the window; processor time is that of the window.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from './client.mjs'
import { cpuMicroseconds, family } from './processes.mjs'
import { percentile, sorted } from './statistics.mjs'

/** Nothing answers later than this (requests that wait apart): a window that does not end is a failure of its contender. */
const drainDeadlineMs = 20_000
const arrivalTickMs = 1

/** One after the other over the whole run, so that no two workers ever name the same effect. */
let lastNumber = 0
const nextNumber = () => ++lastNumber

/** Times of requests by what they ask, kept while the window is open. */
class Recorder {
  #times = new Map()
  open = false
  requests = 0
  units = 0

  request(kind, milliseconds) {
    if (!this.open) return
    this.requests++
    this.#add(kind, milliseconds)
  }

  unit(milliseconds) {
    if (!this.open) return
    this.units++
    this.#add('unit', milliseconds)
  }

  #add(kind, milliseconds) {
    const times = this.#times.get(kind)
    if (times === undefined) this.#times.set(kind, [milliseconds])
    else times.push(milliseconds)
  }

  /** p50 and p99 of a kind of request, in milliseconds. */
  latency(kind) {
    const times = sorted(this.#times.get(kind) ?? [])
    return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) }
  }
}

/** What a unit of work asks with: the connections of its worker, each request timed under its kind. */
const asker = (clients, recorder) => ({
  async ask(kind, request, connection = 0) {
    const start = performance.now()
    const answer = await clients[connection].ask(request)
    recorder.request(kind, performance.now() - start)
    return answer
  },
})

async function connectWorkers({ ports, connections, perWorker }, recorder) {
  const count = Math.max(1, Math.floor(connections / perWorker))
  const connect = async (_, worker) => {
    const port = ports[worker % ports.length]
    const clients = await Promise.all(Array.from({ length: perWorker }, () => Client.connect(port)))
    return { index: worker, clients, ...asker(clients, recorder) }
  }
  return Promise.all(Array.from({ length: count }, connect))
}

/** Processor time of the servers, of Redis and of the driver, from the call until `end()`. */
function cpuMeter({ servers, redis }) {
  const pids = { server: family(servers), redis: family(redis) }
  const read = () => {
    const { user, system } = process.cpuUsage()
    return { server: cpuMicroseconds(pids.server), redis: cpuMicroseconds(pids.redis), driver: user + system }
  }
  const before = read()
  const start = performance.now()
  return {
    end() {
      const after = read()
      const spent = Object.entries(after).map(([name, time]) => [name, time - before[name]])
      return { seconds: (performance.now() - start) / 1000, ...Object.fromEntries(spent) }
    },
  }
}

/**
 * Workers in a closed loop. `target`: {ports, servers, redis} of a deployment; `scenario`: see scenarios.mjs. Answers a flat
 * record: effects and requests a second, µs of processor an effect and a request, latencies in ms.
 */
export async function closedLoad(target, scenario, { connections, seconds, warmupSeconds }) {
  const recorder = new Recorder()
  const perWorker = scenario.connectionsPerWorker ?? 1
  const workers = await connectWorkers({ ports: target.ports, connections, perWorker }, recorder)
  let ending = false
  const work = async (worker) => {
    while (!ending) {
      const start = performance.now()
      await scenario.unit(worker, nextNumber())
      recorder.unit(performance.now() - start)
    }
  }
  const loops = workers.map(work)
  const failed = Promise.all(loops)
  failed.catch(() => (ending = true))
  try {
    await Promise.race([failed, delay(warmupSeconds * 1000)])
    return await measure({ target, scenario, recorder, failed, seconds, stop: () => (ending = true) })
  } finally {
    ending = true
    for (const { clients } of workers) clients.forEach((client) => client.close())
  }
}

async function measure({ target, scenario, recorder, failed, seconds, stop }) {
  const meter = cpuMeter(target)
  recorder.open = true
  await Promise.race([failed, delay(seconds * 1000)])
  recorder.open = false
  const spent = meter.end()
  stop()
  const late = new AbortController()
  const deadline = delay(drainDeadlineMs, undefined, { signal: late.signal }).then(() => {
    throw new Error(`answers are missing ${drainDeadlineMs} ms after the window`)
  })
  deadline.catch(() => undefined)
  await Promise.race([failed, deadline])
  late.abort()
  return figures(recorder, scenario, spent)
}

function figures(recorder, scenario, spent) {
  const effects = recorder.units * scenario.effects
  const { requests } = recorder
  return {
    effectsPerSecond: effects / spent.seconds,
    requestsPerSecond: requests / spent.seconds,
    serverMicrosecondsPerRequest: spent.server / requests,
    serverMicrosecondsPerEffect: spent.server / effects,
    redisMicrosecondsPerEffect: spent.redis / effects,
    microsecondsPerEffect: (spent.server + spent.redis) / effects,
    driverMicrosecondsPerRequest: spent.driver / requests,
    driverLoad: spent.driver / spent.seconds / 1e6,
    serverLoad: spent.server / spent.seconds / 1e6,
    p50: recorder.latency(scenario.timed).p50,
    p99: recorder.latency(scenario.timed).p99,
  }
}

/**
 * Effects that arrive `perSecond`, whatever the server does: each is timed from its arrival, so a queue in front of a slow
 * server is part of what it costs. Arrivals come in bunches of one tick, 1 ms. `done` well below `perSecond`:
 * overload.
 */
export async function openLoad(target, scenario, { connections, seconds, perSecond }) {
  const recorder = new Recorder()
  const workers = await connectWorkers({ ports: target.ports, connections, perWorker: 1 }, recorder)
  const queue = { idle: [...workers], arrived: [], failure: undefined }
  const dispatch = (worker) => {
    const at = queue.arrived.shift()
    if (at === undefined) return void queue.idle.push(worker)
    scenario.unit(worker, nextNumber()).then(
      () => {
        recorder.unit(performance.now() - at)
        dispatch(worker)
      },
      (error) => (queue.failure = error),
    )
  }
  recorder.open = true
  const meter = cpuMeter(target)
  try {
    await arrive(queue, dispatch, { seconds, perSecond })
    const spent = meter.end()
    if (queue.failure !== undefined) throw queue.failure
    const { p50, p99 } = recorder.latency('unit')
    const done = recorder.units / spent.seconds
    return { perSecond, done, p50, p99, microsecondsPerEffect: (spent.server + spent.redis) / recorder.units }
  } finally {
    for (const { clients } of workers) clients.forEach((client) => client.close())
  }
}

async function arrive(queue, dispatch, { seconds, perSecond }) {
  const start = performance.now()
  let arrivals = 0
  for (let now = start; now < start + seconds * 1000 && queue.failure === undefined; now = performance.now()) {
    for (const due = ((now - start) / 1000) * perSecond; arrivals < due; arrivals++) queue.arrived.push(now)
    while (queue.idle.length > 0 && queue.arrived.length > 0) dispatch(queue.idle.pop())
    await delay(arrivalTickMs)
  }
}

/** Waits for the work and lets the other connections of a failed one go. `count` units, on `connections` connections. */
export async function doUnits(target, scenario, { connections, count, onUnit = () => undefined }) {
  const recorder = new Recorder()
  const perWorker = scenario.connectionsPerWorker ?? 1
  const workers = await connectWorkers({ ports: target.ports, connections, perWorker }, recorder)
  let left = count
  const work = async (worker) => {
    while (left-- > 0) {
      await scenario.unit(worker, nextNumber())
      onUnit()
    }
  }
  try {
    await Promise.all(workers.map(work))
  } finally {
    left = 0
    for (const { clients } of workers) clients.forEach((client) => client.close())
  }
}
