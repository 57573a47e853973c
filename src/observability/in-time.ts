/** What is asked of Redis for a page or a scrape: nobody waits long for it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { limits } from '../limits.ts'

/** The value, or null where it is not there within `limits.countsWaitMs` or cannot be had. */
export async function inTime<Value>(asked: Promise<Value>): Promise<Value | null> {
  const answered = asked.catch(() => null)
  const given = new AbortController()
  const late = sleep(limits.countsWaitMs, null, { signal: given.signal }).catch(() => null)
  return Promise.race([answered, late]).finally(() => given.abort())
}

type Question<Value> = () => Promise<Value | null>

/**
 * What gauges ask, until the service lets go of Redis. A process's counters are read once more after that, by those who
 * add them up, and a question then would be told as trouble of a store that is well.
 */
export function createQuestions() {
  const running = new Set<Promise<unknown>>()
  let over = false
  return {
    /** The question, answered by null when it is too late. */
    untilEnd<Value>(question: Question<Value>): Question<Value> {
      return async () => {
        if (over) return null
        const asked = question()
        running.add(asked)
        return asked.finally(() => running.delete(asked))
      }
    },
    /** No question from now on; resolves when those under way are answered. */
    async end(): Promise<void> {
      over = true
      await Promise.allSettled(running)
    },
  }
}
