/** Breakers: every transition is a legal one, none is missing, and failures are counted exactly. */

export type BreakerState = 'closed' | 'open' | 'half_open'

/** One answer about a breaker: to a report (`event`: what it reported, if it counts), a read, or a person's act. */
export type BreakerCall = {
  f: 'failure' | 'success' | 'get' | 'act'
  event?: string
  invokedAt: number
  endedAt: number
  verdict: 'ok' | 'fail' | 'info'
  told?: { state: BreakerState; version: number; failures: number }
}

export type Transition = { version: number; from: BreakerState; to: BreakerState; cause: string }

export type BreakerHistory = {
  job: string
  threshold: number
  /** A failure may be lost with a primary: what it was told of need not be counted. */
  lossy: boolean
  calls: BreakerCall[]
  /** As the service lists them, newest first; it keeps 200. */
  transitions: Transition[]
}

const legal: ReadonlySet<string> = new Set([
  'closed open failure_threshold',
  'half_open open probe_failed',
  'half_open closed probes_succeeded',
  'open half_open auto_recovery',
  'open half_open override_expired',
])
const byPeople: Readonly<Record<string, string>> = { half_open: 'override', open: 'forced_open' }

function isLegal({ from, to, cause }: Transition): boolean {
  const byPerson = to === 'closed' ? cause === 'override' || cause === 'reset' : cause === byPeople[to]
  return byPerson || legal.has(`${from} ${to} ${cause}`)
}

export function transitionsAreLegal({ transitions }: BreakerHistory): string[] {
  const inOrder = transitions.toReversed()
  const first = inOrder[0]?.version ?? 1
  return inOrder.flatMap((transition, index) => {
    const { version, from, to, cause } = transition
    const before = inOrder[index - 1]?.to ?? (first === 1 ? 'closed' : from)
    return [
      ...(version === first + index ? [] : [`transition ${first + index} has the version ${version}`]),
      ...(from === before ? [] : [`version ${version} leaves ${from}, and the state was ${before}`]),
      ...(isLegal(transition) ? [] : [`version ${version} went from ${from} to ${to} by ${cause}`]),
    ]
  })
}

const distinct = (calls: BreakerCall[]): number => new Set(calls.map(({ event }) => event)).size

/** What an answer says of the count, against the failures that were certainly, and at the most, reported by then. */
function miscount(told: BreakerCall, failures: BreakerCall[], { threshold, lossy }: BreakerHistory): string[] {
  if (!told.told) return []
  const counts = (call: BreakerCall) => call.verdict === 'ok' && (call === told || call.endedAt < told.invokedAt)
  const certain = lossy ? 0 : distinct(failures.filter(counts))
  const possible = distinct(failures.filter(({ invokedAt }) => invokedAt <= told.endedAt))
  const { state, failures: counted } = told.told
  if (state === 'open') return possible >= threshold ? [] : [`is open after ${possible} failures of ${threshold}`]
  if (state !== 'closed') return []
  if (certain >= threshold) return [`is closed after ${certain} failures of ${threshold}`]
  return counted >= certain && counted <= possible
    ? []
    : [`counts ${counted} failures where ${certain} to ${possible} were reported`]
}

/** Between one act of a person and the next, told by somebody who knows that the act was done. */
function epochs(calls: BreakerCall[]): BreakerCall[][] {
  const inOrder = calls.toSorted((a, b) => a.invokedAt - b.invokedAt)
  const acts = inOrder.filter(({ f }) => f === 'act')
  const bounds = [{ endedAt: -Infinity, verdict: 'ok' as const }, ...acts]
  return bounds.map(({ endedAt: from, verdict }, index) => {
    const until = acts[index]?.invokedAt ?? Infinity
    return verdict === 'ok' ? inOrder.filter((call) => call.invokedAt > from && call.endedAt < until) : []
  })
}

/** The window of these runs is longer than the run, so no failure leaves it. One without an answer may arrive much later. */
export function failuresAreCounted(history: BreakerHistory): string[] {
  const failures = history.calls.filter(({ f, event }) => f === 'failure' && event !== undefined)
  const strays = failures.filter(({ verdict }) => verdict !== 'ok')
  return epochs(history.calls).flatMap((epoch) => {
    const reported = [...new Set([...strays, ...failures.filter((call) => epoch.includes(call))])]
    return epoch.flatMap((call) => miscount(call, reported, history))
  })
}
