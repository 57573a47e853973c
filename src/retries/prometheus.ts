/** Retry metrics of one namespace, over all replicas, as Prometheus text. */
import { Counter, Gauge, Registry } from 'prom-client'
import { type Counts, describeCounts, type MetricsBody, type WindowCounts } from './window.ts'

const labelNames = ['job_type'] as const

const gauges: { name: string; help: string; value: (body: MetricsBody) => number }[] = [
  {
    name: 'retry_rate_per_minute',
    help: 'Retry attempts a minute over the window.',
    value: (body) => body.retry_rate_per_minute,
  },
  {
    name: 'retry_success_rate',
    help: 'Successes in percent of successes and failures over the window.',
    value: (body) => body.retry_success_rate,
  },
  {
    name: 'retry_failure_rate',
    help: 'Failures in percent of successes and failures over the window.',
    value: (body) => body.retry_failure_rate,
  },
  {
    name: 'retry_block_rate',
    help: 'Blocked retries in percent of attempts and blocked ones over the window.',
    value: (body) => body.retry_block_rate,
  },
  { name: 'retry_avg_attempts', help: 'Mean attempt number over the window.', value: (body) => body.avg_attempts },
]

const counters: { name: string; help: string; value: (total: Counts) => number }[] = [
  { name: 'retry_attempts_total', help: 'Retry attempts since the last reset.', value: ({ attempts }) => attempts },
  {
    name: 'retry_successes_total',
    help: 'Retries that succeeded since the last reset.',
    value: ({ successes }) => successes,
  },
  {
    name: 'retry_failures_total',
    help: 'Retries that failed since the last reset.',
    value: ({ failures }) => failures,
  },
]

/** `text` is in the exposition format `contentType`. Gauges are over `windowMinutes`, counters since the last reset. */
export async function retryMetricsText(
  counts: ReadonlyMap<string, WindowCounts>,
  windowMinutes: number,
): Promise<{ text: string; contentType: string }> {
  const registry = new Registry()
  const registers = [registry]
  for (const { name, help, value } of gauges) {
    const gauge = new Gauge({ name, help, labelNames, registers })
    for (const [job_type, { window }] of counts) gauge.set({ job_type }, value(describeCounts(window, windowMinutes)))
  }
  for (const { name, help, value } of counters) {
    const counter = new Counter({ name, help, labelNames, registers })
    for (const [job_type, { total }] of counts) counter.inc({ job_type }, value(total))
  }
  const blocked = new Counter({
    name: 'retry_blocked_total',
    help: 'Retries that were not allowed since the last reset, by reason.',
    labelNames: ['job_type', 'reason'] as const,
    registers,
  })
  for (const [job_type, { total }] of counts) {
    for (const [reason, count] of total.blocked) blocked.inc({ job_type, reason }, count)
  }
  return { text: await registry.metrics(), contentType: registry.contentType }
}
