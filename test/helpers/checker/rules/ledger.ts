/** The exchange's own ledger against what the service tells: no order is carried out twice, or left unknown, silently. */
import { grantsOf } from '../grants.ts'
import type { Call, EffectHistory } from '../history.ts'

const saysDoubt = ({ told }: Call): boolean =>
  told.code === 'effect-uncertain' || told.state === 'uncertain' || told.outcome === 'uncertain'

/** Whether anybody was told that this effect needs to be looked at. */
function wasFlagged({ calls, sights }: EffectHistory): boolean {
  return sights.length > 0 || calls.some((call) => saysDoubt(call) || (call.f === 'resolve' && call.verdict === 'ok'))
}

const isReclaim = (history: EffectHistory): boolean => grantsOf(history).some(({ policy }) => policy === 'reclaim')

/** An order that was carried out twice is one that somebody was told of. */
export function noSilentDouble(history: EffectHistory): string[] {
  const { executions } = history
  if (executions.length < 2 || wasFlagged(history) || isReclaim(history)) return []
  return [`was carried out ${executions.length} times, by tokens ${executions.map(({ token }) => token).join(', ')}`]
}

/** What the last read of a run says must fit what the exchange did. */
export function outcomeFitsLedger(history: EffectHistory): string[] {
  const { calls, executions } = history
  const last = calls.findLast(({ f, verdict, told }) => f === 'get' && (verdict === 'ok' || told.status === 404))
  if (!last) return []
  const { state = 'absent', result } = last.told
  const earlier = executions.filter(({ time }) => time < last.invokedAt)
  const consumed = calls.some(({ f, sent }) => f === 'claim' && sent.result !== undefined)
  if (state === 'completed' && executions.length === 0 && !consumed) {
    return [`is completed with ${result}, and the exchange knows nothing of it`]
  }
  // Under reclaim the end of a silent holder's lease releases, whatever that holder did.
  const denied = state === 'absent' || state === 'failed' || (state === 'released' && !isReclaim(history))
  return denied && earlier.length > 0 && !wasFlagged(history)
    ? [`is ${state}, and the exchange has carried it out`]
    : []
}
