/** Many operations in one call: those on one effect in the order given, the others side by side. */
import { limits } from '../limits.ts'
import type { Problem } from '../problems.ts'
import { storeUnavailable } from '../redis/refusals.ts'

/** One operation, ready to begin. `on`: its effect; undefined where that could not be told, so that none waits for it. */
export type BatchOperation<Answer> = { on: string | undefined; run: () => Promise<Answer> }

/** In time to be told with the others, which a refusal of the whole call would take along. */
const tookTooLong = (): Problem =>
  storeUnavailable('outcome_unknown', 'The operation took too long: send it again; do not execute.')

/** Its answer could come too late, and whatever it did would be done behind the caller's back. */
const notBegun = (): Problem =>
  storeUnavailable('busy', 'The operations before it on this effect took too long: it has not begun.')

/**
 * Begins all of them in this turn of the event loop, but for those that follow another one on the same effect, whatever
 * became of that. Answers in the order given, within `limits.batchAnswerMs`.
 */
export async function runBatch<Answer>(
  operations: readonly BatchOperation<Answer>[],
): Promise<PromiseSettledResult<Answer>[]> {
  const startMs = performance.now()
  const last = new Map<string, Promise<unknown>>()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<typeof tookTooLong>((resolve) => {
    timer = setTimeout(resolve, limits.batchAnswerMs, tookTooLong)
  })

  function begin({ on, run }: BatchOperation<Answer>): Promise<Answer> {
    const before = on === undefined ? undefined : last.get(on)
    const inTime = () => performance.now() - startMs <= limits.batchBeginMs
    const answer = before
      ? before.then(() => {
          if (!inTime()) throw notBegun()
          return run()
        })
      : run()
    if (on !== undefined)
      last.set(
        on,
        answer.catch(() => undefined),
      )
    return Promise.race([answer, late.then((problem) => Promise.reject(problem()))])
  }

  const answers = await Promise.allSettled(operations.map(begin))
  clearTimeout(timer)
  return answers
}
