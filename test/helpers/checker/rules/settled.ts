/** A completed effect stays completed: nobody is granted it, its result never changes and never vanishes. */
import { grantsOf } from '../grants.ts'
import type { Call, EffectHistory } from '../history.ts'

type Completion = { token: number; result: string; knownAt: number }

const isCompletion = ({ f, verdict, sent, told }: Call): boolean =>
  verdict === 'ok' &&
  (f === 'complete' ||
    (f === 'resolve' && sent.resolution === 'executed') ||
    (f === 'claim' && told.outcome === 'completed' && told.status === 201))

function completionsOf({ calls }: EffectHistory): Completion[] {
  return calls.filter(isCompletion).map(({ f, sent, told, endedAt }) => ({
    token: (f === 'complete' ? sent.token : told.token) ?? 0,
    result: sent.result ?? 'null',
    knownAt: endedAt,
  }))
}

const wasDeleted = ({ calls }: EffectHistory): boolean => calls.some(({ f }) => f === 'delete')

export function noGrantAfterComplete(history: EffectHistory): string[] {
  if (wasDeleted(history)) return []
  const [completion] = completionsOf(history).toSorted((a, b) => a.token - b.token)
  if (!completion) return []
  const later = grantsOf(history).filter(({ token }) => token > completion.token)
  return later.map(({ token }) => `token ${token} was granted after ${completion.token} had completed it`)
}

/** The result that an answer tells of, if it tells one. */
function told({ f, told: { status, state, outcome, result } }: Call): string | undefined {
  if (f === 'claim') return status === 200 && outcome === 'completed' ? (result ?? 'null') : undefined
  return f === 'get' && state === 'completed' ? (result ?? 'null') : undefined
}

export function resultsNeverChange(history: EffectHistory): string[] {
  if (wasDeleted(history)) return []
  const { calls } = history
  const answers = calls.flatMap((call) => (told(call) === undefined ? [] : [told(call)!]))
  const results = new Set([...completionsOf(history).map(({ result }) => result), ...answers])
  const possible = new Set(calls.filter(({ f }) => f !== 'get').map(({ sent }) => sent.result ?? 'null'))
  return [
    ...(results.size > 1 ? [`has the results ${[...results].join(' and ')}`] : []),
    ...[...results].filter((result) => !possible.has(result)).map((result) => `nobody reported the result ${result}`),
  ]
}

/** What nobody may be told who asks after a completion was acknowledged. */
function deniesCompletion({ f, verdict, told: { status, state, code, outcome } }: Call): boolean {
  if (f === 'get') return status === 404 || (verdict === 'ok' && state !== 'completed')
  if (f !== 'claim') return false
  if (verdict === 'ok') return status === 200 && outcome !== 'completed'
  return code === 'effect-in-progress' || code === 'effect-uncertain'
}

export function resultsNeverVanish(history: EffectHistory): string[] {
  if (wasDeleted(history)) return []
  const knownAt = Math.min(...completionsOf(history).map((completion) => completion.knownAt))
  return history.calls
    .filter((call) => call.invokedAt > knownAt && deniesCompletion(call))
    .map(({ f, told: { status, state, code } }) => `after it was completed a ${f} was told ${status} ${code ?? state}`)
}
