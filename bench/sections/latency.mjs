/** Latency: with two connections, where nothing can be put together, and with a given load, whatever the server makes of it. */
import { closedLoad, openLoad } from '../load.mjs'
import { libraryCall, single } from '../scenarios.mjs'

const few = 2

const callers = [
  { name: 'hand', deployment: 'hand', scenario: single },
  { name: 'node-idempotency', deployment: 'node-idempotency', scenario: (target) => libraryCall(target) },
  { name: 'single', deployment: 'service', scenario: single },
]

/** Answers {<caller>: windows} at two connections, in rounds. */
export async function fewConnections({ pool, options, late }) {
  const windows = Object.fromEntries(callers.map(({ name }) => [name, []]))
  for (let round = 0; round < options.rounds && !late(); round++) {
    for (const { name, deployment, scenario } of callers) {
      const target = await pool.get(deployment)
      windows[name].push(await closedLoad(target, scenario(target), { ...options, connections: few }))
    }
  }
  return windows
}

/** A server that is this far behind is overloaded: more load only makes the queue longer. */
const shareDoneMin = 0.9

/** Answers {<caller>: [{perSecond, done, p50, p99, microsecondsPerEffect}, …]} over the offered loads. */
export async function offeredLoads({ pool, options, late }) {
  const curves = Object.fromEntries(callers.map(({ name }) => [name, []]))
  const overloaded = new Set()
  for (const perSecond of options.loads) {
    for (const { name, deployment, scenario } of callers) {
      if (overloaded.has(name) || late()) continue
      const target = await pool.get(deployment)
      const point = await openLoad(target, scenario(target), { ...options, perSecond })
      curves[name].push(point)
      if (point.done < perSecond * shareDoneMin) overloaded.add(name)
    }
  }
  return curves
}
