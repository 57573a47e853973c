/** What listeners hear of the store. */
import { limits } from '../limits.ts'
import type { Events } from './events.ts'

/**
 * Says once that the store is in trouble, and once that it has answered without trouble for a while: a full Redis refuses
 * some calls and answers others. `nowMs` never runs backwards.
 */
export function tellOfStore(events: Pick<Events, 'emit'>, nowMs: () => number) {
  let sinceMs: number | undefined
  let goodSinceMs: number | undefined
  return {
    trouble(reason: string): void {
      goodSinceMs = undefined
      if (sinceMs !== undefined) return
      sinceMs = nowMs()
      events.emit({ event: 'store.trouble', reason })
    },
    answered(): void {
      if (sinceMs === undefined) return
      goodSinceMs ??= nowMs()
      if (nowMs() - goodSinceMs < limits.storeCalmMs) return
      const silent_seconds = (goodSinceMs - sinceMs) / 1000
      sinceMs = undefined
      events.emit({ event: 'store.recovered', silent_seconds })
    },
  }
}
