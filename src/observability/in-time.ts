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
