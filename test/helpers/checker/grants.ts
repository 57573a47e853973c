/** What every rule reads out of a history: the grants of an effect, and what may have ended them. */
import type { Call, EffectHistory } from './history.ts'

export type Grant = {
  token: number
  attempt: number
  reference: string
  /** Owner and claim_id. */
  claim: string
  policy: 'hold' | 'reclaim'
  leaseMs: number
  /** Redis's clock. */
  claimedAt: number
  leaseEndsAt: number
  /** Granted and completed in one. */
  settled: boolean
  replayed: boolean
  askedAt: number
  toldAt: number
}

const claimOf = ({ sent }: Call): string => `${sent.owner ?? ''} ${sent.claim ?? ''}`

const isGrant = ({ f, told }: Call): boolean => f === 'claim' && told.status === 201

function grantOf(call: Call): Grant {
  const { sent, told, invokedAt: askedAt, endedAt: toldAt } = call
  const { token = 0, attempt = 0, reference = '', claimed_at: claimedAt = 0 } = told
  return {
    ...{ token, attempt, reference, claimedAt, askedAt, toldAt },
    claim: claimOf(call),
    policy: sent.policy ?? 'hold',
    leaseMs: sent.lease_ms ?? 0,
    leaseEndsAt: told.lease_expires_at ?? claimedAt,
    settled: told.outcome === 'completed',
    replayed: told.replayed === true,
  }
}

/** Every answer that granted, in the order of the calls. */
export const grantAnswers = ({ calls }: EffectHistory): Grant[] => calls.filter(isGrant).map(grantOf)

/** One grant a claim, the lowest token first; asked when it was first sent, told when it was first answered. */
export function grantsOf(history: EffectHistory): Grant[] {
  const grants = new Map<string, Grant>()
  for (const answer of grantAnswers(history)) {
    const name = `${answer.claim} ${answer.token}`
    const known = grants.get(name)
    if (known) known.toldAt = Math.min(known.toldAt, answer.toldAt)
    else grants.set(name, { ...answer, askedAt: firstAskedAt(history, answer) })
  }
  return [...grants.values()].sort((a, b) => a.token - b.token)
}

function firstAskedAt({ calls }: EffectHistory, { claim }: Grant): number {
  return Math.min(
    ...calls.filter((call) => call.f === 'claim' && claimOf(call) === claim).map((call) => call.invokedAt),
  )
}

/**
 * It happened, or may have. A 409 does not say that it did not: where the first reply was lost, or a proxy sent the call
 * twice, it is the second one that is refused.
 */
export const mayHaveHappened = ({ verdict, told }: Call): boolean => verdict !== 'fail' || told.status === 409

const tokenOf = ({ sent }: Call): number => sent.token ?? 0

/** A report after which its holder no longer holds and somebody else may be granted. */
function lets({ f, sent, verdict, told }: Call, policy: Grant['policy']): boolean {
  if (f === 'release') return true
  if (f !== 'fail') return false
  const clear = sent.execution === 'no' || (sent.execution === 'unknown' && policy === 'reclaim')
  return clear && (verdict === 'ok' ? told.outcome === 'released' : sent.retryable !== false)
}

/** Whether a report of `from`'s holder, or a person, may have made way for `until`, which was told later. */
export function madeWay({ calls }: EffectHistory, from: Grant, until: Grant): boolean {
  return calls.some((call) => {
    if (!mayHaveHappened(call) || call.invokedAt > until.toldAt || call.endedAt < from.askedAt) return false
    if (call.f === 'delete') return true
    const [token, of] = [tokenOf(call), call.f]
    if (of === 'resolve') {
      return call.sent.resolution === 'not_executed' && token >= from.token && token < until.token
    }
    return token === from.token && lets(call, from.policy)
  })
}

/** When the lease of a grant ended by Redis's clock, with every renewal that was told before `before`. */
export function leaseEnd({ calls }: EffectHistory, grant: Grant, before: number): number {
  const renewals = calls.filter(
    ({ f, sent, verdict, endedAt }) =>
      f === 'renew' && sent.token === grant.token && verdict === 'ok' && endedAt <= before,
  )
  return Math.max(grant.leaseEndsAt, ...renewals.map(({ told }) => told.lease_expires_at ?? 0))
}

/** Neighbours in the order of tokens. */
export const successions = (grants: Grant[]): [Grant, Grant][] =>
  grants.slice(1).map((grant, index) => [grants[index]!, grant])
