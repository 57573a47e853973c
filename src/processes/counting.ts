/**
 * What all processes behind one port have counted. What a process had counted when it was last heard of stays in the sum
 * after its end, so that no counter ever runs backwards: Prometheus would take that for a new start and count all again.
 */
import { AggregatorRegistry, type Registry } from 'prom-client'
import { limits } from '../limits.ts'
import type { CountedMetrics } from '../observability/metrics.ts'
import type { Member } from './member.ts'

/** A gauge says how it is now. `type` is a word, although the package declares a number. */
const withoutGauges = (metrics: CountedMetrics = []) => metrics.filter(({ type }) => String(type) !== 'gauge')

const sum = (counts: CountedMetrics[]): Registry => AggregatorRegistry.aggregate(counts)

export function createCounting() {
  const living = new Map<number, CountedMetrics>()
  let ended: Promise<CountedMetrics> = Promise.resolve([])
  const waiting = new Map<number, { memberId: number; settle: () => void }>()
  let last = 0

  /**
   * Asks one; who does not answer in time is counted as when it was last heard of. Its end settles the question too: a race
   * with `member.exited` would leave its reactions there for as long as the worker lives, about 300 bytes with each scrape.
   */
  function ask(member: Member): Promise<void> {
    const question = ++last
    return new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(late)
        waiting.delete(question)
        resolve()
      }
      const late = setTimeout(() => {
        living.set(member.id, withoutGauges(living.get(member.id)))
        settle()
      }, limits.metricsGatherMs)
      waiting.set(question, { memberId: member.id, settle })
      member.tell({ type: 'count', question })
    })
  }

  return {
    /** What a member has counted by now, as the answer to a question or unasked. */
    keep: ({ id }: Member, metrics: CountedMetrics, question = 0): void => {
      living.set(id, metrics)
      waiting.get(question)?.settle()
    },
    end({ id }: Member): void {
      const counters = withoutGauges(living.get(id))
      living.delete(id)
      ended = ended.then((before) => sum([before, counters]).getMetricsAsJSON())
      for (const { memberId, settle } of waiting.values()) if (memberId === id) settle()
    },
    /** The sum, in Prometheus's text. */
    async text(members: readonly Member[]): Promise<string> {
      await Promise.all(members.map(ask))
      const counts = [...living.values()]
      return sum([await ended, ...counts]).metrics()
    },
  }
}
