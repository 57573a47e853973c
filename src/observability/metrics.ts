/** Every Prometheus metric of the service. Labels come from closed lists, never from callers. */
import { Counter, Histogram, Registry } from 'prom-client'

export function createMetrics(knownTypes: readonly string[]) {
  const registry = new Registry()
  const registers = [registry]
  const typeLabel = (type: string): string => (knownTypes.includes(type) ? type : 'other')

  const claims = new Counter({
    name: 'effectonce_claims_total',
    help: 'Claims by effect type and outcome.',
    labelNames: ['type', 'outcome'] as const,
    registers,
  })
  const requests = new Histogram({
    name: 'effectonce_request_seconds',
    help: 'Time from the request to its answer.',
    labelNames: ['route', 'status'] as const,
    registers,
  })
  const store = new Histogram({
    name: 'effectonce_store_seconds',
    help: 'Time of a call of Redis, with its retries.',
    labelNames: ['script'] as const,
    registers,
  })
  const storeErrors = new Counter({
    name: 'effectonce_store_errors_total',
    help: 'Calls that Redis did not answer, by reason.',
    labelNames: ['reason'] as const,
    registers,
  })
  const lateCompletions = new Counter({
    name: 'effectonce_late_completions_total',
    help: 'Reports of an execution after somebody else had taken over: perhaps executed twice.',
    registers,
  })

  return {
    registry,
    claim: (type: string, outcome: string) => claims.inc({ type: typeLabel(type), outcome }),
    request: (route: string, status: number, seconds: number) =>
      requests.observe({ route, status: String(status) }, seconds),
    storeAnswered: (script: string, seconds: number) => store.observe({ script }, seconds),
    storeTrouble: (reason: string) => storeErrors.inc({ reason }),
    lateCompletion: () => lateCompletions.inc(),
  }
}

export type Metrics = ReturnType<typeof createMetrics>
