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
 * became of that. Answers in the order given, within `limits.batchAnswerMs` of `startMs`.
 */
function runAll<Answer>(
  operations: readonly BatchOperation<Answer>[],
  startMs: number,
): Promise<PromiseSettledResult<Answer>[]> {
  const last = new Map<string, Promise<unknown>>()
  const answers = new Array<PromiseSettledResult<Answer> | undefined>(operations.length)

  async function runInTime({ run }: BatchOperation<Answer>): Promise<Answer> {
    if (performance.now() - startMs > limits.batchBeginMs) throw notBegun()
    return run()
  }

  function begin(operation: BatchOperation<Answer>): Promise<Answer> {
    const { on } = operation
    const before = on === undefined ? undefined : last.get(on)
    const next = () => runInTime(operation)
    const answer = before ? before.then(next, next) : next()
    if (on !== undefined) last.set(on, answer)
    return answer
  }

  return new Promise((resolve) => {
    let missing = operations.length
    function end(): void {
      clearTimeout(timer)
      resolve(Array.from(answers, (answer) => answer ?? { status: 'rejected', reason: tookTooLong() }))
    }
    function take(at: number, answer: PromiseSettledResult<Answer>): void {
      answers[at] = answer
      missing -= 1
      if (missing === 0) end()
    }
    const timer = setTimeout(end, startMs + limits.batchAnswerMs - performance.now())
    for (const [at, operation] of operations.entries()) {
      begin(operation).then(
        (value) => take(at, { status: 'fulfilled', value }),
        (reason: unknown) => take(at, { status: 'rejected', reason }),
      )
    }
    if (missing === 0) end()
  })
}

/**
 * Runs the operations of calls, `limits.batchUnderWayMax` of them at a time or those of one call, the others when it is their
 * turn: what is under way is in memory, and thousands of operations at once cost the collector of garbage a third of the
 * processor. After `limits.batchTurnMs` a call begins anyway: those before it may be waiting for a replica that it does not need.
 */
export function createBatches() {
  const waiting = new Set<{ count: number; begin: () => void }>()
  let underWay = 0

  function admit(): void {
    for (const next of waiting) {
      if (underWay > 0 && underWay + next.count > limits.batchUnderWayMax) return
      next.begin()
    }
  }

  function turn(count: number): Promise<void> {
    return new Promise((resolve) => {
      const begin = (): void => {
        clearTimeout(timer)
        waiting.delete(entry)
        underWay += count
        resolve()
      }
      const entry = { count, begin }
      const timer = setTimeout(begin, limits.batchTurnMs)
      waiting.add(entry)
      admit()
    })
  }

  /** `make` gives the operations, `count` of them, when they may begin. Answers in their order. */
  return async function run<Answer>(
    count: number,
    make: () => readonly BatchOperation<Answer>[],
  ): Promise<PromiseSettledResult<Answer>[]> {
    const startMs = performance.now()
    await turn(count)
    try {
      return await runAll(make(), startMs)
    } finally {
      underWay -= count
      admit()
    }
  }
}
