/** A stale holder overwrites nothing: once a later grant, or a person's decision, is known, its token has no effect. */
import { grantsOf } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

const reports: ReadonlySet<string> = new Set(['complete', 'fail', 'release', 'renew'])

export function staleTokensFail(history: EffectHistory): string[] {
  const resolved = history.calls.flatMap(({ f, verdict, told, endedAt }) =>
    f === 'resolve' && verdict === 'ok' && told.token !== undefined ? [{ token: told.token, toldAt: endedAt }] : [],
  )
  const successors = [...grantsOf(history), ...resolved]
  return history.calls.flatMap(({ f, sent, verdict, invokedAt }) => {
    if (!reports.has(f) || verdict !== 'ok') return []
    const successor = successors.find(({ token, toldAt }) => token > (sent.token ?? 0) && toldAt < invokedAt)
    return successor ? [`a ${f} with token ${sent.token} was accepted after ${successor.token} was known`] : []
  })
}

/** A lease that is over stays over: no renewal brings it back. */
export function leasesStayOver(history: EffectHistory): string[] {
  return grantsOf(history).flatMap(({ token, leaseMs, leaseEndsAt }) => {
    const renewals = history.calls.filter(
      ({ f, sent, verdict }) => f === 'renew' && sent.token === token && verdict === 'ok',
    )
    const ends = renewals.map(({ told }) => told.lease_expires_at ?? 0).toSorted((a, b) => a - b)
    const shortest = Math.min(leaseMs, ...renewals.map(({ sent }) => sent.lease_ms ?? leaseMs))
    const late = ends.findIndex((end, index) => end - shortest > (ends[index - 1] ?? leaseEndsAt))
    return late < 0
      ? []
      : [`token ${token} was renewed until ${ends[late]} after its lease had ended at ${ends[late - 1] ?? leaseEndsAt}`]
  })
}
