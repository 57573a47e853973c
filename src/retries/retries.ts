/** Retries: the decision, what is recorded, and the metrics, over one Redis for all replicas. */
import { createDecisions, type DecisionsDependencies } from './decisions.ts'
import type { RetryMetrics } from './metrics.ts'
import { retryMetricsText } from './prometheus.ts'
import { createReset, type ResetDependencies } from './reset.ts'

/** Everything that a handler may ask of retries. `metrics` comes from `createRetryMetrics`, which effects use too. */
export function createRetries(
  metrics: RetryMetrics,
  windowMinutes: number,
  decisions: Omit<DecisionsDependencies, 'metrics'>,
  reset: ResetDependencies,
) {
  return {
    ...createDecisions({ ...decisions, metrics }),
    record: metrics.record,
    readAll: metrics.readAll,
    readOne: metrics.readOne,
    /** In the Prometheus text format, over `windowMinutes`. */
    readText: async (namespace: string) => retryMetricsText(await metrics.allCounts(namespace), windowMinutes),
    reset: createReset(reset),
  }
}

export type Retries = ReturnType<typeof createRetries>
