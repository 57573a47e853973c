/**
 * What a second process brings. Driver and Redis need processors too, so on a small machine one process fills what is left:
 * here each process may take only a share of a processor, and there is room for all.
 */
import { startService } from '../deployments.mjs'
import { closedLoad } from '../load.mjs'
import { using } from '../pool.mjs'
import { family } from '../processes.mjs'
import { boundProcessor } from '../quota.mjs'
import { single } from '../scenarios.mjs'

/** The service warmed up, and from then on each of its processes bounded: compiling would be what is measured. */
async function startBounded(processes, { processShare, processWarmupSeconds, ...options }) {
  const connections = options.connections * processes
  const service = await startService({ processes })
  const groups = []
  const stop = async () => {
    await service.stop()
    for (const remove of groups) remove()
  }
  try {
    const seconds = processWarmupSeconds * processes
    await closedLoad(service, single(service), { connections, seconds, warmupSeconds: 0 })
    for (const pid of family(service.servers)) groups.push(boundProcessor(pid, processShare))
    return { load: () => closedLoad(service, single(service), { ...options, connections }), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Answers {share, windows by the number of processes}; those at one place of the lists were measured one after the other. */
export const effectsByProcesses = ({ options, late }) =>
  using(
    () => startBounded(1, options),
    (one) =>
      using(
        () => startBounded(2, options),
        async (two) => {
          const windows = { 1: [], 2: [] }
          for (let n = 0; n < options.processWindows && !late(); n++) {
            windows[1].push(await one.load())
            windows[2].push(await two.load())
          }
          return { share: options.processShare, windows }
        },
      ),
  )
