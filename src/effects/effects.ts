/** The domain of effects: every operation, bound to what it may use. */
import { type Context, createContext, type EffectsDependencies } from './context.ts'
import { count, get, list } from './read.ts'
import { complete, fail, release, renew } from './report.ts'
import { remove, resolve } from './settle.ts'
import { claimOrWait as claim } from './wait.ts'

const operations = { claim, complete, fail, release, renew, resolve, remove, get, list, count }

type Operations = typeof operations
type Bound<F> = F extends (context: Context, ...rest: infer Rest) => infer Answer ? (...rest: Rest) => Answer : never

/** The operations, and the context that the sweep shares with them. */
export function createEffects(dependencies: EffectsDependencies) {
  const context = createContext(dependencies)
  const bound = Object.entries(operations).map(([name, operation]) => [
    name,
    (operation as (...args: unknown[]) => unknown).bind(undefined, context),
  ])
  const { locate } = context
  return { context, locate, ...(Object.fromEntries(bound) as { [Name in keyof Operations]: Bound<Operations[Name]> }) }
}

export type Effects = ReturnType<typeof createEffects>
