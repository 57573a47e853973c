/**
 * A histogram whose series are held by whoever observes: prom-client sorts, checks and joins the labels again with each
 * observation, which cost a request more than its routing.
 */
import type { Histogram, MetricValueWithName, Registry } from 'prom-client'

type Labels = Record<string, string>

class Series {
  readonly labels: Labels
  readonly bounds: readonly number[]
  readonly counts: number[]
  sum = 0
  count = 0

  constructor(labels: Labels, bounds: readonly number[]) {
    this.labels = labels
    this.bounds = bounds
    // One more for what lies above every bound.
    this.counts = new Array<number>(bounds.length + 1).fill(0)
  }

  observe(value: number): void {
    const { bounds, counts } = this
    let bucket = 0
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++
    counts[bucket] = (counts[bucket] as number) + 1
    this.sum += value
    this.count += 1
  }

  /** As prom-client tells a series: each bucket counts those below it too. */
  values(name: string): MetricValueWithName<string>[] {
    const { labels, bounds, counts, sum, count } = this
    let below = 0
    const buckets = [...bounds, '+Inf'].map((le, index) => {
      below += counts[index] as number
      return { labels: { ...labels, le }, value: below, metricName: `${name}_bucket` }
    })
    const total = { labels, value: count, metricName: `${name}_count` }
    return [...buckets, { labels, value: sum, metricName: `${name}_sum` }, total]
  }
}

type Options = { name: string; help: string; labelNames: readonly string[]; bounds: readonly number[] }

/** Registers a histogram. Answers the function that makes one series of it: once for the same labels. */
export function createHistogram(registry: Registry, { name, help, labelNames, bounds }: Options) {
  const series: Series[] = []
  const told = { name, help, type: 'histogram', aggregator: 'sum' }
  const metric = { name, labelNames, get: async () => ({ ...told, values: series.flatMap((one) => one.values(name)) }) }
  // What a registry asks of a metric is `name` and `get`; its type wants the whole class.
  registry.registerMetric(metric as unknown as Histogram)
  return (labels: Labels): Series => {
    const made = new Series(labels, bounds)
    series.push(made)
    return made
  }
}

/** What `make` answers for a key, made once. The keys must be few. */
export function remembered<Key, Value>(make: (key: Key) => Value): (key: Key) => Value {
  const known = new Map<Key, Value>()
  return (key) => {
    const found = known.get(key)
    if (found !== undefined) return found
    const made = make(key)
    known.set(key, made)
    return made
  }
}
