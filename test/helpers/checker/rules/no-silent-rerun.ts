/** A strict effect whose holder fell silent, or does not know, is never handed out again before somebody has looked. */
import { grantsOf, leaseEnd, madeWay, successions } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

export function noSilentRerun(history: EffectHistory): string[] {
  return successions(grantsOf(history)).flatMap(([held, next]) => {
    const silent = held.policy === 'hold' && !held.settled && next.claimedAt >= leaseEnd(history, held, next.askedAt)
    if (!silent || madeWay(history, held, next)) return []
    return [`token ${next.token} was granted though nobody knows what came of ${held.token}`]
  })
}
