/**
 * Every Prometheus metric of the service; docs/metrics.md explains each. Labels come from closed lists, never from callers:
 * an effect type that is neither built in nor configured is `other`, as is a job type that is not configured.
 *
 * `aggregator` says what several processes behind one port answer together: the sum where nothing is said, but the first
 * word or the largest for what all of them know alike.
 */
import { type Aggregator, collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import { version } from '../paths.ts'
import { alone, type Fellows } from '../processes/fellows.ts'
import { storeReasons } from '../redis/errors.ts'
import { createHistogram, remembered } from './histogram.ts'

/** Seconds, from half a millisecond to the deadline of a request. */
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3]

/** How many effects of each type are in progress and uncertain. */
export type EffectCounts = ReadonlyMap<string, { in_progress: number; uncertain: number }>

/** The breakers that are remembered, one for each namespace and job type. */
export type BreakerStates = readonly { jobType: string; state: (typeof breakerStates)[number] }[]
const breakerStates = ['closed', 'open', 'half_open'] as const

/** Where gauges look when they are scraped; none of them may throw or take long. */
export type Sources = {
  memory: () => { used_bytes: number; budget_bytes: number | null }
  /** Null where Redis cannot say in time: the gauge is left out then. */
  effects: () => Promise<EffectCounts | null>
  /** Null where Redis cannot say in time. */
  breakers: () => Promise<BreakerStates | null>
  storeSilentSeconds: () => number
  waiters: () => number
}

/** What a registry holds, as processes hand it to each other. */
export type CountedMetrics = Awaited<ReturnType<Registry['getMetricsAsJSON']>>

/** `/breakers/:job_type`, as the server has it, the way that `openapi.yaml` writes it. */
const pathOf = (route: string): string => route.replaceAll(/:(\w+)/g, '{$1}')

function requestMetrics(registry: Registry) {
  const registers = [registry]
  const requests = createHistogram(registry, {
    name: 'effectonce_request_seconds',
    help: 'Time from the request to its answer, without what a claim waited for another holder.',
    labelNames: ['route', 'status'],
    bounds: buckets,
  })
  const routes = remembered((url: string) => {
    const route = pathOf(url)
    return remembered((status: number) => requests({ route, status: `${status}` }))
  })
  const faults = new Counter({
    name: 'effectonce_faults_total',
    help: 'Mistakes of the service itself, by where they showed: a request, or the background.',
    labelNames: ['where'] as const,
    registers,
  })
  for (const where of ['request', 'background']) faults.inc({ where }, 0)
  return {
    request: (route: string, status: number, seconds: number) => routes(route)(status).observe(seconds),
    fault: (where: 'request' | 'background') => faults.inc({ where }),
  }
}

function storeMetrics(registry: Registry) {
  const store = createHistogram(registry, {
    name: 'effectonce_store_seconds',
    help: 'Time of a script on Redis, with its retries.',
    labelNames: ['script'],
    bounds: buckets,
  })
  const scripts = remembered((script: string) => store({ script }))
  const storeErrors = new Counter({
    name: 'effectonce_store_errors_total',
    help: 'Calls that Redis did not answer, by reason.',
    labelNames: ['reason'] as const,
    registers: [registry],
  })
  for (const reason of storeReasons) storeErrors.inc({ reason }, 0)
  return {
    storeAnswered: (script: string, seconds: number) => scripts(script).observe(seconds),
    storeTrouble: (reason: string) => storeErrors.inc({ reason }),
  }
}

/** What could not be kept although the call that it belongs to was answered. */
function recordMetrics(registers: Registry[]) {
  const lost = new Counter({
    name: 'effectonce_records_lost_total',
    help: 'Audit lines, events and retry records that could not be written.',
    labelNames: ['kind'] as const,
    registers,
  })
  for (const kind of ['audit_line', 'event', 'retry_record']) lost.inc({ kind }, 0)
  return {
    auditLinesLost: (lines: number) => lost.inc({ kind: 'audit_line' }, lines),
    eventsLost: (events: number) => lost.inc({ kind: 'event' }, events),
    retryRecordsLost: (records: number) => lost.inc({ kind: 'retry_record' }, records),
  }
}

function effectMetrics(registers: Registry[], typeLabel: (type: string) => string) {
  // Counted here, and told to the counter when it is read: it joins its labels anew with each step.
  const cells: { type: string; outcome: string; claims: number }[] = []
  const cellOf = remembered((type: string) =>
    remembered((outcome: string) => {
      const cell = { type, outcome, claims: 0 }
      cells.push(cell)
      return cell
    }),
  )
  new Counter({
    name: 'effectonce_claims_total',
    help: 'Claims by effect type and outcome.',
    labelNames: ['type', 'outcome'] as const,
    registers,
    collect() {
      for (const cell of cells) {
        this.inc({ type: cell.type, outcome: cell.outcome }, cell.claims)
        cell.claims = 0
      }
    },
  })
  const lateCompletions = new Counter({
    name: 'effectonce_late_completions_total',
    help: 'Reports of an execution after somebody else had taken over: perhaps executed twice.',
    registers,
  })
  return {
    claim: (type: string, outcome: string) => void cellOf(typeLabel(type))(outcome).claims++,
    lateCompletion: () => lateCompletions.inc(),
  }
}

function effectGauge(registers: Registry[], knownTypes: readonly string[], read: Sources['effects']): void {
  new Gauge({
    name: 'effectonce_effects',
    help: 'Effects in progress and uncertain, by type; absent while Redis cannot say.',
    labelNames: ['type', 'state'] as const,
    aggregator: 'first',
    registers,
    async collect() {
      const counts = await read()
      this.reset()
      if (counts === null) return
      // A type without any is 0, so that an alert can tell none from not known.
      for (const type of new Set([...knownTypes, ...counts.keys()])) {
        const label = knownTypes.includes(type) ? type : 'other'
        for (const state of ['in_progress', 'uncertain'] as const) {
          this.inc({ type: label, state }, counts.get(type)?.[state] ?? 0)
        }
      }
    },
  })
}

function breakerMetrics(registers: Registry[], labelOf: (jobType: string) => string) {
  const transitions = new Counter({
    name: 'effectonce_breaker_transitions_total',
    help: 'Changes of state that this process made, by the state after them.',
    labelNames: ['job_type', 'to'] as const,
    registers,
  })
  return {
    breakerTransition: (jobType: string, to: string) => transitions.inc({ job_type: labelOf(jobType), to }),
  }
}

function breakerGauge(registers: Registry[], knownJobTypes: readonly string[], read: Sources['breakers']): void {
  new Gauge({
    name: 'effectonce_breaker_state',
    help: 'Breakers by job type and state, over all namespaces; absent while Redis cannot say.',
    labelNames: ['job_type', 'state'] as const,
    aggregator: 'first',
    registers,
    async collect() {
      const states = await read()
      this.reset()
      if (states === null) return
      for (const job_type of [...knownJobTypes, 'other']) {
        for (const state of breakerStates) this.set({ job_type, state }, 0)
      }
      for (const { jobType, state } of states) {
        this.inc({ job_type: knownJobTypes.includes(jobType) ? jobType : 'other', state })
      }
      // A configured one that nothing is remembered of is closed.
      const remembered = new Set(states.map(({ jobType }) => jobType))
      for (const job_type of knownJobTypes) if (!remembered.has(job_type)) this.set({ job_type, state: 'closed' }, 1)
    },
  })
}

function stateGauges(registers: Registry[], { memory, storeSilentSeconds, waiters }: Sources): void {
  const gauge = (name: string, help: string, read: () => number, aggregator: Aggregator = 'max') =>
    new Gauge({
      ...{ name, help, registers, aggregator },
      collect() {
        this.set(read())
      },
    })
  gauge('effectonce_memory_bytes', 'Memory that keys take in Redis, estimated.', () => memory().used_bytes)
  if (memory().budget_bytes !== null) {
    gauge(
      'effectonce_memory_budget_bytes',
      'The budget: above it new effects are refused.',
      () => memory().budget_bytes ?? 0,
    )
  }
  gauge('effectonce_store_silent_seconds', 'Time since Redis last answered.', storeSilentSeconds)
  gauge('effectonce_waiters', 'Claims that wait for the end of what another holds.', waiters, 'sum')
}

function fellowMetrics(registers: Registry[], { serving, lost }: Fellows): void {
  new Gauge({
    name: 'effectonce_processes',
    help: 'Processes behind this port that take calls.',
    aggregator: 'max',
    registers,
    collect() {
      this.set(serving())
    },
  })
  new Counter({
    name: 'effectonce_processes_lost_total',
    help: 'Processes behind this port that ended without being told to; each was replaced.',
    aggregator: 'max',
    registers,
    collect() {
      this.reset()
      this.inc(lost())
    },
  })
}

/** Gauges of prom-client whose names end like a counter's: `promtool check metrics` refuses them. */
const misnamed = ['nodejs_active_resources_total', 'nodejs_active_handles_total', 'nodejs_active_requests_total']

function processMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry })
  for (const name of misnamed) registry.removeSingleMetric(name)
  const build = new Gauge({
    name: 'effectonce_build_info',
    help: 'Always 1; the labels say what runs.',
    labelNames: ['version', 'node'] as const,
    aggregator: 'first',
    registers: [registry],
  })
  build.set({ version, node: process.version }, 1)
}

/** Effect types and job types that get a label of their own; all others are `other`. */
export function createMetrics(
  knownTypes: readonly string[],
  knownJobTypes: readonly string[] = [],
  fellows: Fellows = alone,
) {
  const registry = new Registry()
  const registers = [registry]
  const typeLabel = (type: string): string => (knownTypes.includes(type) ? type : 'other')
  const jobTypeLabel = (jobType: string): string => (knownJobTypes.includes(jobType) ? jobType : 'other')
  processMetrics(registry)
  fellowMetrics(registers, fellows)
  return {
    registry,
    /** In Prometheus's text, over all processes behind this port. */
    text: () => fellows.counted(registry),
    ...requestMetrics(registry),
    ...storeMetrics(registry),
    ...effectMetrics(registers, typeLabel),
    ...recordMetrics(registers),
    ...breakerMetrics(registers, jobTypeLabel),
    /** Adds the gauges that look when they are scraped; once. */
    watch(sources: Sources): void {
      effectGauge(registers, knownTypes, sources.effects)
      breakerGauge(registers, knownJobTypes, sources.breakers)
      stateGauges(registers, sources)
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
