/** The domain of effects, put together: claim, what a holder reports, what a person decides, and looking at it all. */
import { createClaim } from './claim.ts'
import { createContext, type EffectsDependencies } from './context.ts'
import { createReading } from './read.ts'
import { createReports } from './report.ts'
import { createSettlements } from './settle.ts'

export function createEffects(dependencies: EffectsDependencies) {
  const context = createContext(dependencies)
  return {
    context,
    claim: createClaim(context),
    ...createReports(context),
    ...createSettlements(context),
    ...createReading(context),
  }
}

export type Effects = ReturnType<typeof createEffects>
