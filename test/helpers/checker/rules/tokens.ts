/** Tokens: each belongs to one claim, they rise, and each tells when it was granted. */
import { grantsOf } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

/** Far above every step of a clock in these runs, far below the distance to a plain counter. */
const clockStepMsMax = 3_600_000

export function tokensRise(history: EffectHistory): string[] {
  const grants = grantsOf(history)
  const inOrder = grants.toSorted((a, b) => a.toldAt - b.toldAt)
  return inOrder.flatMap((grant, index) => {
    const earlier = inOrder.slice(0, index)
    const shared = earlier.find(({ token }) => token === grant.token)
    const higher = earlier.find(({ token, toldAt }) => toldAt < grant.askedAt && token > grant.token)
    const timeless = Math.abs(grant.token / 1000 - grant.claimedAt) > clockStepMsMax
    return [
      ...(shared ? [`token ${grant.token} was granted to ${shared.claim} and to ${grant.claim}`] : []),
      ...(higher ? [`token ${grant.token} was granted after ${higher.token}`] : []),
      ...(timeless ? [`token ${grant.token} does not tell that it was granted at ${grant.claimedAt}`] : []),
    ]
  })
}
