/** The same claim_id is granted once: every answer to it names the same grant, and says that it is a repeat. */
import { grantAnswers } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

export function sameNonceSameGrant(history: EffectHistory): string[] {
  const answers = grantAnswers(history).toSorted((a, b) => a.toldAt - b.toldAt)
  return answers.flatMap((answer, index) => {
    const first = answers.find(({ claim }) => claim === answer.claim)!
    if (answers.indexOf(first) === index) return []
    const { claim, token, attempt } = answer
    const unsaid = answer.askedAt > first.toldAt && !answer.replayed
    return [
      ...(token === first.token ? [] : [`claim ${claim} was granted ${first.token}, then ${token}`]),
      ...(attempt === first.attempt ? [] : [`claim ${claim} was attempt ${first.attempt}, then ${attempt}`]),
      ...(unsaid ? [`claim ${claim} was granted again, as if for the first time`] : []),
    ]
  })
}

/** One effect has one name in the outside world. */
export function oneReference(history: EffectHistory): string[] {
  const references = new Set(grantAnswers(history).map(({ reference }) => reference))
  return references.size > 1 ? [`has the references ${[...references].join(', ')}`] : []
}
