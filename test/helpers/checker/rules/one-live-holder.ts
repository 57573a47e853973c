/** At most one live holder: nobody is granted what another holds by a living lease. */
import { grantsOf, leaseEnd, madeWay, successions } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

export function oneLiveHolder(history: EffectHistory): string[] {
  return successions(grantsOf(history)).flatMap(([held, next]) => {
    if (held.settled || madeWay(history, held, next)) return []
    const endsAt = leaseEnd(history, held, next.askedAt)
    if (next.claimedAt >= endsAt) return []
    return [`token ${next.token} was granted ${endsAt - next.claimedAt} ms before the lease of ${held.token} ended`]
  })
}
