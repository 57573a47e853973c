/** Retry metrics as they are kept (lua/prelude/retry.lua), summed over a window, and the rates that callers see. Pure. */
import type { KeptMetrics } from './scripts.ts'

/** Minutes that one chunk covers. */
const chunkMinutes = 240

/** Sums of events; `numbers` is the sum of the attempt numbers, `blocked` counts by reason. */
export type Counts = {
  attempts: number
  numbers: number
  successes: number
  failures: number
  blocked: Map<string, number>
}

type KeptCounts = Omit<Counts, 'blocked'> & { blocked: Record<string, number> }
type KeptState = { minute: number; reasons: string[]; now: KeptCounts; total: KeptCounts }

/** What was counted in the window, and since the last reset. */
export type WindowCounts = { window: Counts; total: Counts }

export const emptyCounts = (): Counts => ({ attempts: 0, numbers: 0, successes: 0, failures: 0, blocked: new Map() })

/** Adds `more` to `sum`. */
export function addCounts(sum: Counts, more: Counts): void {
  sum.attempts += more.attempts
  sum.numbers += more.numbers
  sum.successes += more.successes
  sum.failures += more.failures
  for (const [reason, count] of more.blocked) sum.blocked.set(reason, (sum.blocked.get(reason) ?? 0) + count)
}

const fromKept = (kept: KeptCounts): Counts => ({ ...kept, blocked: new Map(Object.entries(kept.blocked)) })

/** Reads numbers of six bits a character, the lowest first; the seventh bit says that more follow. */
function numberReader(text: string) {
  let at = 0
  return {
    more: () => at < text.length,
    next: (): number => {
      let value = 0
      for (let unit = 1; ; unit *= 64) {
        const code = text.charCodeAt(at++)
        value += (code % 64) * unit
        if (code < 64) return value
      }
    },
  }
}

/** The minutes of one chunk in which something happened, oldest first. */
function* minutesOf(chunk: string, reasons: readonly string[]): Generator<{ minute: number; counts: Counts }> {
  const mark = chunk.indexOf(':')
  let minute = Number(chunk.slice(0, mark)) * chunkMinutes - 1
  const { more, next } = numberReader(chunk.slice(mark + 1))
  while (more()) {
    const head = next()
    minute += head & 1 ? next() : 1
    const counts = emptyCounts()
    if (head & 2) [counts.attempts, counts.numbers] = [next(), next()]
    if (head & 4) counts.successes = next()
    if (head & 8) counts.failures = next()
    for (let place = head & 16 ? next() : 0; place > 0; place = place & 1 ? next() : 0) {
      counts.blocked.set(reasons[(place >> 1) - 1] ?? 'other', next())
    }
    yield { minute, counts }
  }
}

/**
 * Sums the last `windowMinutes` minutes, the running one included. Chunks of a ring may be from days before: only
 * minutes of the window count.
 */
export function sumWindow({ nowUs, state, chunks }: KeptMetrics, windowMinutes: number): WindowCounts {
  const window = emptyCounts()
  if (state === '') return { window, total: emptyCounts() }
  const { minute, reasons, now, total } = JSON.parse(state) as KeptState
  const first = Math.floor(nowUs / 60_000_000) - windowMinutes + 1
  for (const chunk of chunks.filter((text) => text !== '')) {
    for (const past of minutesOf(chunk, reasons)) if (past.minute >= first) addCounts(window, past.counts)
  }
  if (minute >= first) addCounts(window, fromKept(now))
  return { window, total: fromKept(total) }
}

const percent = (part: number, whole: number): number => (whole === 0 ? 0 : (100 * part) / whole)
const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, number) => total + number, 0)

/** Retry metrics of one job type, or of all, over a window. Rates are 0 where there is nothing to divide. */
export type MetricsBody = {
  time_window_minutes: number
  retry_rate_per_minute: number
  retry_success_rate: number
  retry_failure_rate: number
  retry_block_rate: number
  avg_attempts: number
  totals: { attempts: number; successes: number; failures: number; blocked: number }
  blocked_by_reason: Record<string, number>
}

/** The counts as callers see them. */
export function describeCounts(counts: Counts, windowMinutes: number): MetricsBody {
  const { attempts, numbers, successes, failures } = counts
  const blocked = sum(counts.blocked.values())
  return {
    time_window_minutes: windowMinutes,
    retry_rate_per_minute: attempts / windowMinutes,
    retry_success_rate: percent(successes, successes + failures),
    retry_failure_rate: percent(failures, successes + failures),
    retry_block_rate: percent(blocked, attempts + blocked),
    avg_attempts: attempts === 0 ? 0 : numbers / attempts,
    totals: { attempts, successes, failures, blocked },
    blocked_by_reason: Object.fromEntries(counts.blocked),
  }
}
