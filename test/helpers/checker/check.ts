/** All rules over one history. Pure: the same history gives the same violations. */
import type { EffectHistory, History, Outage } from './history.ts'
import { noInternalErrors } from './rules/answers.ts'
import { attemptsAreCounted } from './rules/attempts.ts'
import { actsAreAudited, type AuditEntry, chainIsWhole } from './rules/audit.ts'
import { type BreakerHistory, failuresAreCounted, transitionsAreLegal } from './rules/breaker.ts'
import { doubtIsExplicit, uncertainIsTold } from './rules/doubt.ts'
import { noSilentDouble, outcomeFitsLedger } from './rules/ledger.ts'
import { noSilentRerun } from './rules/no-silent-rerun.ts'
import { oneLiveHolder } from './rules/one-live-holder.ts'
import { oneReference, sameNonceSameGrant } from './rules/same-nonce.ts'
import { noGrantAfterComplete, resultsNeverChange, resultsNeverVanish } from './rules/settled.ts'
import { leasesStayOver, staleTokensFail } from './rules/stale.ts'
import { tokensRise } from './rules/tokens.ts'

export type Violation = { rule: string; subject: string; message: string }
export type Checked = { checks: number; violations: Violation[] }

/** Of the service's configuration in these runs. */
const attemptsMax = 3

type Rule = (history: EffectHistory, endedAt: number, outages: readonly Outage[]) => string[]

const effectRules: Record<string, Rule> = {
  'one live holder': oneLiveHolder,
  'no silent second run': noSilentRerun,
  'tokens unique and rising': tokensRise,
  'same nonce, same grant': sameNonceSameGrant,
  'one reference': oneReference,
  'no grant after complete': noGrantAfterComplete,
  'results never change': resultsNeverChange,
  'results never vanish': resultsNeverVanish,
  'stale tokens fail': staleTokensFail,
  'leases stay over': leasesStayOver,
  'doubt is explicit': doubtIsExplicit,
  'uncertain is told': uncertainIsTold,
  'attempts are counted': (history) => attemptsAreCounted(history, attemptsMax),
  'no internal errors': noInternalErrors,
  'no silent double': noSilentDouble,
  'the outcome fits the ledger': outcomeFitsLedger,
}

const named = (rule: string, subject: string, messages: string[]): Violation[] =>
  messages.map((message) => ({ rule, subject, message }))

export function checkEffects(effects: Iterable<EffectHistory>, { endedAt, outages }: History): Checked {
  const checked: Checked = { checks: 0, violations: [] }
  for (const history of effects) {
    for (const [rule, check] of Object.entries(effectRules)) {
      checked.checks++
      checked.violations.push(...named(rule, history.effect, check(history, endedAt, outages)))
    }
  }
  return checked
}

export function checkBreakers(breakers: BreakerHistory[]): Checked {
  const violations = breakers.flatMap((breaker) => [
    ...named('breaker transitions are legal', breaker.job, transitionsAreLegal(breaker)),
    ...named('breaker failures are counted', breaker.job, failuresAreCounted(breaker)),
  ])
  return { checks: 2 * breakers.length, violations }
}

/** `verified`: what the service says of its own audit. */
export function checkAudit(entries: AuditEntry[], verified: boolean, history: History): Checked {
  const violations = [
    ...named('audit without gaps', 'audit', chainIsWhole(entries)),
    ...named('no act without its entry', 'audit', actsAreAudited(entries, history)),
    ...named('audit without gaps', 'audit', verified ? [] : ['the service finds its audit broken']),
  ]
  return { checks: 2 * entries.length + 1, violations }
}

export const together = (parts: Checked[]): Checked => ({
  checks: parts.reduce((sum, { checks }) => sum + checks, 0),
  violations: parts.flatMap(({ violations }) => violations),
})
