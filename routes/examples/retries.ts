/** Examples of requests and answers about retries, as `openapi.yaml` shows them. */
import { classified } from './failures.ts'

export const decide = {
  job_type: 'order_execution',
  attempt: 1,
  error: { message: 'Too many requests', code: -1003, exchange: 'binance' },
  record_failure: true,
  owner: 'bot-1',
  event_id: '0198c7a2-5d7e-7bb1-9a40-3f1f6f1d2c11',
}

export const decision = {
  retry: true,
  reason: 'retry',
  wait_seconds: 60,
  not_before: '2026-11-23T21:09:42.456Z',
  attempts_left: 2,
  classification: classified,
  breaker: { state: 'closed' },
}

export const attempt = { attempt_number: 2, event_id: 'job-42-attempt-2' }
export const outcome = { event_id: 'job-42-attempt-2' }
export const blocked = { reason: 'circuit_open', event_id: 'job-42-attempt-3' }

export const jobMetrics = {
  time_window_minutes: 60,
  retry_rate_per_minute: 0.2,
  retry_success_rate: 75,
  retry_failure_rate: 25,
  retry_block_rate: 20,
  avg_attempts: 2.25,
  totals: { attempts: 12, successes: 9, failures: 3, blocked: 3 },
  blocked_by_reason: { circuit_open: 2, attempts_exhausted: 1 },
}
export const allMetrics = { ...jobMetrics, job_types: { order_execution: jobMetrics } }

export const metricsText = `# HELP retry_attempts_total Retry attempts since the last reset.
# TYPE retry_attempts_total counter
retry_attempts_total{job_type="order_execution"} 12
`
