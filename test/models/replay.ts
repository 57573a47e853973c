/**
 * How a model is run: its seed is printed, and a failure says how to replay it.
 *
 *   FC_SEED=1234 npm test -- --disable-coverage test/models/effects.test.ts      the same run again
 *   FC_SEED=1234 FC_PATH=17:2:0 npm test -- …                                    only its shrunken counterexample
 *   FC_RUNS=5000 npm test -- …                                                   more runs (a soak)
 *
 * A failure of `fc.commands` prints a `replayPath` too: FC_REPLAY=… takes it.
 */
import fc from 'fast-check'
import type { Test } from 'tap'

const environment = process.env
const seed = Number(environment['FC_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const path = environment['FC_PATH']
/** The first failure is enough: nothing is shrunk. */
const stop = environment['FC_STOP'] !== undefined || path !== undefined

/** What `fc.commands` needs to replay a counterexample. */
export const commandSettings = {
  ...{ maxCommands: 30, size: 'max' as const },
  ...(environment['FC_REPLAY'] === undefined ? {} : { replayPath: environment['FC_REPLAY'] }),
}

/** Holds the property to be true in so many runs, or FC_RUNS of them. */
export async function holds<Shape>(t: Test, runs: number, property: fc.IAsyncProperty<Shape>) {
  t.comment(`FC_SEED=${seed}${path === undefined ? '' : ` FC_PATH=${path}`}`)
  const numRuns = Number(environment['FC_RUNS'] ?? runs)
  const settings = { seed, numRuns, endOnFailure: stop, ...(path === undefined ? {} : { path }) }
  await fc.assert(property, settings)
  t.pass(`${numRuns} runs`)
}
