/**
 * The history of a run, as Jepsen writes it: `invoke` before a call is sent, then `ok` (it happened), `fail` (it did not)
 * or `info` (nobody knows), one JSON object a line. A call that was never answered, because its process was killed, stays
 * with its `invoke`: nobody knows either.
 */

/** Milliseconds of a clock that never goes back and that all processes of the machine share (CLOCK_MONOTONIC). */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6

export type CallName = 'claim' | 'complete' | 'fail' | 'release' | 'renew' | 'resolve' | 'delete' | 'get' | 'send'

/** What a caller sent, as far as a rule needs it. `result` is JSON text. */
export type Sent = {
  owner?: string
  claim?: string
  lease_ms?: number
  policy?: 'hold' | 'reclaim'
  token?: number
  result?: string
  execution?: string
  retryable?: boolean
  resolution?: string
  job_type?: string
}

/** What it was told. Instants are milliseconds of Redis's clock. */
export type Told = {
  /** 0: no answer. */
  status: number
  code?: string
  outcome?: string
  state?: string
  token?: number
  attempt?: number
  reference?: string
  replayed?: boolean
  recovered?: boolean
  claimed_at?: number
  lease_expires_at?: number
  /** JSON text. */
  result?: string
}

export type HistoryEvent = { time: number; process: string } & (
  | { type: 'invoke'; call: number; f: CallName; effect: string; value: Sent }
  | { type: 'ok' | 'fail' | 'info'; call: number; value: Told }
  /** Somebody was told, outside any call: the effect is uncertain, was handed out again, or was reported too late. */
  | { type: 'info'; f: 'uncertain' | 'reclaimed' | 'late_completion' | 'recovered'; effect: string }
  /** The exchange carried out an order. */
  | { type: 'info'; f: 'executed'; effect: string; order: string; token: number }
  /** A fault begins and ends. `outage`: calls may fail meanwhile, so no deadline runs. */
  | { type: 'invoke' | 'ok'; f: 'fault'; fault: string; outage: boolean }
)

export type Call = {
  process: string
  f: CallName
  effect: string
  sent: Sent
  invokedAt: number
  /** Infinity while nobody was told. */
  endedAt: number
  verdict: 'ok' | 'fail' | 'info'
  told: Told
}

export type Sight = { f: 'uncertain' | 'reclaimed' | 'late_completion' | 'recovered'; time: number }
export type Execution = { time: number; order: string; token: number }

/** One effect, its calls in the order in which they were sent. */
export type EffectHistory = { effect: string; calls: Call[]; sights: Sight[]; executions: Execution[] }

export type Outage = { from: number; to: number }
export type History = { effects: Map<string, EffectHistory>; outages: Outage[]; endedAt: number; events: number }

const emptyHistory = (): History => ({ effects: new Map(), outages: [], endedAt: 0, events: 0 })

function effectOf(history: History, effect: string): EffectHistory {
  const known = history.effects.get(effect)
  if (known) return known
  const fresh: EffectHistory = { effect, calls: [], sights: [], executions: [] }
  history.effects.set(effect, fresh)
  return fresh
}

const noAnswer: Told = { status: 0 }

/** What an answer says about whether the call happened. */
export function verdictOf(status: number): 'ok' | 'fail' | 'info' {
  if (status >= 200 && status < 300) return 'ok'
  return status >= 400 && status < 500 ? 'fail' : status === 507 ? 'fail' : 'info'
}

/** Puts events together, in any order of processes but in order within each. */
export function createReader() {
  const history = emptyHistory()
  const open = new Map<string, Call>()
  const faults = new Map<string, Outage>()

  function fault(event: Extract<HistoryEvent, { fault: string }>): void {
    if (!event.outage) return
    if (event.type === 'invoke') {
      const outage = { from: event.time, to: Infinity }
      faults.set(event.fault, outage)
      history.outages.push(outage)
    } else Object.assign(faults.get(event.fault) ?? {}, { to: event.time })
  }

  function began(event: Extract<HistoryEvent, { type: 'invoke'; effect: string }>): void {
    const { process, f, effect, value: sent, time: invokedAt } = event
    const call: Call = { process, f, effect, sent, invokedAt, endedAt: Infinity, verdict: 'info', told: noAnswer }
    open.set(`${process} ${event.call}`, call)
    effectOf(history, effect).calls.push(call)
  }

  function read(event: HistoryEvent): void {
    history.events++
    history.endedAt = Math.max(history.endedAt, event.time)
    if ('fault' in event) fault(event)
    else if (event.type === 'invoke') began(event)
    else if ('call' in event) {
      const call = open.get(`${event.process} ${event.call}`)
      open.delete(`${event.process} ${event.call}`)
      if (call) Object.assign(call, { endedAt: event.time, verdict: event.type, told: event.value })
    } else if (event.f === 'executed') {
      const { time, order, token } = event
      effectOf(history, event.effect).executions.push({ time, order, token })
    } else effectOf(history, event.effect).sights.push({ f: event.f, time: event.time })
  }

  return {
    read,
    events: () => history.events,
    /** The history so far; calls that are still open count as unanswered. */
    history(): History {
      for (const { calls } of history.effects.values()) calls.sort((a, b) => a.invokedAt - b.invokedAt)
      return history
    },
  }
}

/** Writes events of one process; `write` must have kept the event when it returns. */
export function createRecorder(process: string, write: (event: HistoryEvent) => void, nowMs: () => number) {
  let calls = 0
  return {
    /** Records a call: what is sent before it goes, and what came of it. */
    async call<Answer extends { told: Told }>(
      f: CallName,
      effect: string,
      value: Sent,
      send: () => Promise<Answer>,
    ): Promise<Answer> {
      const call = ++calls
      write({ time: nowMs(), process, type: 'invoke', call, f, effect, value })
      const answer = await send()
      write({ time: nowMs(), process, type: verdictOf(answer.told.status), call, value: answer.told })
      return answer
    },
    saw: (f: Sight['f'], effect: string) => write({ time: nowMs(), process, type: 'info', f, effect }),
    executed: (effect: string, order: string, token: number) =>
      write({ time: nowMs(), process, type: 'info', f: 'executed', effect, order, token }),
    fault: (type: 'invoke' | 'ok', fault: string, outage: boolean) =>
      write({ time: nowMs(), process, type, f: 'fault', fault, outage }),
  }
}

export type Recorder = ReturnType<typeof createRecorder>
