/** Attempts are counted: only a release gives one back, only a person starts them again, and none is above the bound. */
import { grantsOf, mayHaveHappened, successions } from '../grants.ts'
import type { EffectHistory } from '../history.ts'

export function attemptsAreCounted(history: EffectHistory, attemptsMax: number): string[] {
  const grants = grantsOf(history)
  const restarted = history.calls.some(({ f }) => f === 'resolve' || f === 'delete')
  const released = (token: number) =>
    history.calls.some((call) => call.f === 'release' && call.sent.token === token && mayHaveHappened(call))
  const over = grants.filter(({ attempt }) => attempt < 1 || attempt > attemptsMax)
  const uncounted = restarted
    ? []
    : successions(grants).filter(([held, next]) => next.attempt < held.attempt + (released(held.token) ? 0 : 1))
  return [
    ...over.map(({ attempt, token }) => `token ${token} is attempt ${attempt} of ${attemptsMax}`),
    ...uncounted.map(([held, next]) => `attempt ${held.attempt} was followed by attempt ${next.attempt}`),
  ]
}
