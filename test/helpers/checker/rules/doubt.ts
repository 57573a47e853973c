/** Every doubt is an explicit state, and is told in time. */
import { type Grant, grantsOf, mayHaveHappened } from '../grants.ts'
import type { Call, EffectHistory, Outage } from '../history.ts'

/** Who says that nobody knows, or that it is half done, makes the effect uncertain. */
export function doubtIsExplicit(history: EffectHistory): string[] {
  const policies = new Map(grantsOf(history).map(({ token, policy }) => [token, policy]))
  return history.calls.flatMap(({ f, sent, verdict, told }) => {
    if (f !== 'fail' || verdict !== 'ok' || told.outcome === 'uncertain') return []
    const { execution = 'no', token = 0 } = sent
    const strict = (policies.get(token) ?? 'hold') === 'hold'
    const doubtful = execution === 'yes' || execution === 'partial' || (execution === 'unknown' && strict)
    return doubtful ? [`a fail with execution ${execution} (token ${token}) became ${told.outcome}`] : []
  })
}

const flagMs = 15_000

/** When everybody may be told that this grant's lease is over; milliseconds of the history's own clock. */
function overAt({ calls }: EffectHistory, { token, leaseMs, toldAt }: Grant): number {
  const renewals = calls.filter(({ f, sent, verdict }) => f === 'renew' && sent.token === token && verdict !== 'fail')
  return Math.max(toldAt + leaseMs, ...renewals.map(({ sent, endedAt }) => endedAt + (sent.lease_ms ?? leaseMs)))
}

/** A deadline does not run while calls may fail. */
function inCalm(at: number, outages: readonly Outage[]): number {
  let deadline = at + flagMs
  for (const { from, to } of outages.toSorted((a, b) => a.from - b.from)) {
    if (from <= deadline && to + flagMs > deadline) deadline = to + flagMs
  }
  return deadline
}

function tellsOfDoubt({ f, told: { code, state, outcome }, verdict }: Call): boolean {
  const uncertain = code === 'effect-uncertain' || state === 'uncertain' || outcome === 'uncertain'
  return uncertain || (f === 'resolve' && verdict === 'ok')
}

/** A silent holder of a strict effect is told of within its lease and 15 s. */
export function uncertainIsTold(history: EffectHistory, endedAt: number, outages: readonly Outage[]): string[] {
  return grantsOf(history).flatMap((grant) => {
    if (grant.policy !== 'hold' || grant.settled) return []
    const deadline = inCalm(overAt(history, grant), outages)
    if (deadline > endedAt) return []
    const reported = history.calls.some(
      (call) =>
        call.sent.token === grant.token &&
        call.f !== 'renew' &&
        call.f !== 'send' &&
        mayHaveHappened(call) &&
        call.invokedAt < deadline,
    )
    const seen = history.sights.some(({ f, time }) => f === 'uncertain' && time > grant.askedAt && time <= deadline)
    const told = history.calls.some(
      (call) => tellsOfDoubt(call) && call.endedAt > grant.askedAt && call.endedAt <= deadline,
    )
    return reported || seen || told
      ? []
      : [`token ${grant.token} fell silent and nobody was told within 15 s of its lease`]
  })
}
