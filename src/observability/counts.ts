/** How many effects are in progress and uncertain: counted in Redis, kept for a moment, never waited for long. */
import { limits } from '../limits.ts'
import { inTime } from './in-time.ts'
import type { EffectCounts } from './metrics.ts'

type Known = { counts: EffectCounts; atMs: number }

/** Adds up what several namespaces have. */
function sum(all: readonly EffectCounts[]): EffectCounts {
  const totals = new Map<string, { in_progress: number; uncertain: number }>()
  for (const [type, { in_progress, uncertain }] of all.flatMap((counts) => [...counts])) {
    const total = totals.get(type) ?? { in_progress: 0, uncertain: 0 }
    totals.set(type, {
      in_progress: total.in_progress + in_progress,
      uncertain: total.uncertain + uncertain,
    })
  }
  return totals
}

/**
 * `count` asks Redis about one namespace. What it said serves for `limits.countsAgeMaxMs`; callers at the same time share
 * one question; who waited `limits.countsWaitMs` in vain is told null, and the answer serves whoever asks next.
 */
export function createCounts(count: (namespace: string) => Promise<EffectCounts>, namespaces: readonly string[]) {
  const known = new Map<string, Known>()
  const running = new Map<string, Promise<EffectCounts>>()

  async function ask(namespace: string): Promise<EffectCounts> {
    try {
      const counts = await count(namespace)
      known.set(namespace, { counts, atMs: performance.now() })
      return counts
    } finally {
      running.delete(namespace)
    }
  }

  async function fresh(namespace: string): Promise<EffectCounts> {
    const last = known.get(namespace)
    if (last && performance.now() - last.atMs < limits.countsAgeMaxMs) return last.counts
    const asked = running.get(namespace) ?? ask(namespace)
    running.set(namespace, asked)
    return asked
  }

  /** One namespace after the other: each is some hundred commands. */
  async function freshAll(): Promise<EffectCounts> {
    const all: EffectCounts[] = []
    for (const namespace of namespaces) all.push(await fresh(namespace))
    return sum(all)
  }

  return {
    /** Of one namespace; null where Redis cannot say in time. */
    of: (namespace: string) => inTime(fresh(namespace)),
    /** Of all namespaces together; null where Redis cannot say in time. */
    all: () => inTime(freshAll()),
  }
}

export type Counts = ReturnType<typeof createCounts>
