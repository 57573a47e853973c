/**
 * What the contract says of one circuit breaker, as a pure function: `step(settings, state, operation, answer)` is the state
 * after it, or throws with what is wrong. Seconds count from the start of a run; what ends by itself ends half-way between
 * two instants that the clock can stand at.
 */
import assert from 'node:assert/strict'
import type { Answer } from '../helpers/app.ts'

export const clockStep = 20
export const lasting = (steps: number): number => steps * clockStep + clockStep / 2

/** The same for every run of a service; seconds. */
export type Settings = {
  threshold: number
  distinctOwners: number
  window: number
  recovery: number | null
  probes: number
  successes: number
  probeTimeout: number
}
export const holdSeconds = lasting(2)

/** What a report of a failure says: `hold` names the time until which the exchange wants quiet. */
export type ErrorKind = 'none' | 'counting' | 'harmless' | 'hold'
export type Action = 'half_open' | 'close' | 'open'
export type Operation =
  | { kind: 'check'; probe: string }
  | { kind: 'failure'; owner: string; event: string; probe?: string; error: ErrorKind }
  | { kind: 'success'; event: string; probe?: string }
  /** `ahead`: how much newer than the breaker's the version is that was looked at. */
  | { kind: 'override'; action: Action; version?: number; expires?: number }
  | { kind: 'reset' }
  | { kind: 'get' }
  | { kind: 'move'; seconds: number }
  /** A new effect with the job type of the breaker; `effect` names it. */
  | { kind: 'claim'; effect: string; lease: number; probe?: string }
  | { kind: 'complete' | 'release'; effect: string }
  | { kind: 'fail'; effect: string; error: 'counting' | 'harmless' }
  | { kind: 'renew'; effect: string; lease: number }

type Failure = { at: number; owner: string }
type Job = { begun: number; leaseEnd: number }

export type State = {
  now: number
  state: 'closed' | 'open' | 'half_open'
  forced: boolean
  openedOnce: boolean
  version: number
  /** When an open one becomes half-open by itself. */
  end: number | null
  hold: number
  failures: readonly Failure[]
  /** Events that have counted. */
  counted: readonly string[]
  successes: number
  /** Living and dead permits, until when each lives. */
  permits: Readonly<Record<string, number>>
  /** Causes of transitions, oldest first: the history, and with acts of persons the events. */
  causes: readonly string[]
  overridden: number
  /** Attempts that hold a claim; `begun` and `opened` count grants and openings in their order. */
  jobs: Readonly<Record<string, Job>>
  instant: number
  opened: number
}

export const start: State = {
  ...{ now: 0, state: 'closed', forced: false, openedOnce: false, version: 0, end: null, hold: 0, failures: [] },
  ...{ counted: [], successes: 0, permits: {}, causes: [], overridden: 0, jobs: {}, instant: 1, opened: 0 },
}

type Cause = 'failure_threshold' | 'probe_failed' | 'probes_succeeded' | 'auto_recovery' | 'override_expired'
type Act = 'override' | 'forced_open' | 'reset'

function move(state: State, to: State['state'], cause: Cause | Act, settings: Settings): State {
  const { recovery } = settings
  const instant = state.instant + 1
  return {
    ...state,
    ...{ state: to, version: state.version + 1, forced: cause === 'forced_open', instant },
    ...{ successes: 0, permits: {}, causes: [...state.causes, cause] },
    end: to === 'open' && cause !== 'forced_open' && recovery !== null ? state.now + recovery : null,
    failures: to === 'closed' ? [] : state.failures,
    opened: to === 'open' && state.state !== 'open' ? instant : state.opened,
    openedOnce: to !== 'closed' && (to === 'open' || state.openedOnce),
  }
}

/** An open breaker whose time is over is half-open, whoever looks first. */
function settled(state: State, settings: Settings): State {
  if (state.state !== 'open' || state.end === null || state.now < state.end) return state
  return move(state, 'half_open', state.forced ? 'override_expired' : 'auto_recovery', settings)
}

const inWindow = ({ failures, now }: State, { window }: Settings) => failures.filter(({ at }) => at > now - window)
const alive = ({ permits, now }: State, permit: string): boolean => (permits[permit] ?? 0) > now
const living = (state: State): number => Object.keys(state.permits).filter((permit) => alive(state, permit)).length

const without = <T>(all: Readonly<Record<string, T>>, name: string): Record<string, T> =>
  Object.fromEntries(Object.entries(all).filter(([other]) => other !== name))
const endPermit = (state: State, permit: string): State => ({ ...state, permits: without(state.permits, permit) })
const keepPermit = (state: State, permit: string, seconds: number): State => ({
  ...state,
  permits: { ...state.permits, [permit]: Math.max(state.permits[permit] ?? 0, state.now + seconds) },
})

function refusal({ state, forced, hold, now }: State): string | undefined {
  if (state === 'open') return forced ? 'forced_open' : 'open'
  return hold > now ? 'hold' : undefined
}

/** Takes a permit where one is needed: the state after it, and the word for why or why not. */
function ask(state: State, permit: string, seconds: number, settings: Settings, earlier = permit) {
  const refused = refusal(state)
  if (refused) return { state, reason: refused, allowed: false }
  if (state.state === 'closed') return { state, reason: 'closed', allowed: true }
  if (!alive(state, permit) && !alive(state, earlier) && living(state) >= settings.probes) {
    return { state, reason: 'no_probe_left', allowed: false }
  }
  const free = earlier === permit ? state : endPermit(state, earlier)
  return { state: keepPermit(free, permit, seconds), reason: 'probe', allowed: true }
}

/** The breaker as an answer tells it. */
function look(state: State, settings: Settings, { status, body, text }: Answer): State {
  assert.equal(status, 200, text)
  const seen = {
    ...{ state: body.state, version: body.version, failures: body.failure_count },
    ...{ override: body.requires_override, hold: body.hold_until !== null, opened: body.opened_at !== null },
    end: body.auto_recovery_at !== null,
  }
  assert.deepEqual(seen, {
    ...{ state: state.state, version: state.version },
    failures: inWindow(state, settings).length,
    ...{ override: state.state === 'open' && state.end === null, hold: state.hold > state.now },
    ...{ opened: state.openedOnce, end: state.end !== null },
  })
  return state
}

type Report = {
  event: string
  permit: string | undefined
  owner: string
  counts: boolean
  hold: boolean
  begun?: number
}

const remember = (state: State, event: string): State => ({ ...state, counted: [...state.counted, event] })

function count(state: State, { owner, event, begun = Infinity }: Report, settings: Settings): State {
  // A job that began before the last opening says nothing about now.
  if (begun < state.opened) return state
  const after = remember({ ...state, failures: [...state.failures, { at: state.now, owner }] }, event)
  const recent = inWindow(after, settings)
  const owners = new Set(recent.map((failure) => failure.owner))
  const enough = recent.length >= settings.threshold && owners.size >= settings.distinctOwners
  return enough ? move(after, 'open', 'failure_threshold', settings) : after
}

function failed(before: State, report: Report, settings: Settings): State {
  if (before.counted.includes(report.event)) return before
  const held = report.hold ? { ...before, hold: Math.max(before.hold, before.now + holdSeconds) } : before
  const state = report.hold ? remember(held, report.event) : held
  if (state.state === 'closed') return report.counts ? count(state, report, settings) : state
  const probe = report.permit !== undefined && alive(state, report.permit)
  if (state.state === 'open' || !probe) return state
  if (report.counts) return move(remember(state, report.event), 'open', 'probe_failed', settings)
  return endPermit(state, report.permit as string)
}

function succeeded(state: State, permit: string | undefined, event: string, settings: Settings): State {
  if (state.counted.includes(event)) return state
  if (state.state !== 'half_open' || permit === undefined || !alive(state, permit)) return state
  const after = remember(endPermit({ ...state, successes: state.successes + 1 }, permit), event)
  return after.successes >= settings.successes ? move(after, 'closed', 'probes_succeeded', settings) : after
}

const actions = { half_open: 'half_open', close: 'closed', open: 'open' } as const

function override(
  state: State,
  operation: Operation & { kind: 'override' },
  settings: Settings,
  answer: Answer,
): State {
  const { action, version, expires } = operation
  if (version !== undefined && version !== state.version) {
    assert.equal(answer.body.code, 'version-conflict', answer.text)
    return state
  }
  const moved = move(state, actions[action], action === 'open' ? 'forced_open' : 'override', settings)
  const end = expires === undefined ? null : moved.now + expires
  const hold = action === 'open' ? moved.hold : 0
  return look({ ...moved, end, hold, overridden: moved.overridden + 1 }, settings, answer)
}

function claim(state: State, operation: Operation & { kind: 'claim' }, settings: Settings, answer: Answer): State {
  const { effect, lease, probe } = operation
  const asked = ask(state, effect, lease, settings, probe)
  if (!asked.allowed) {
    assert.equal(answer.status, 409, answer.text)
    assert.deepEqual([answer.body.code, answer.body.reason], ['circuit-open', asked.reason])
    return state
  }
  assert.equal(answer.status, 201, answer.text)
  const instant = state.instant + 1
  const job = { begun: instant, leaseEnd: state.now + lease }
  return { ...asked.state, jobs: { ...state.jobs, [effect]: job }, instant }
}

function renew(state: State, effect: string, lease: number, answer: Answer): State {
  const job = state.jobs[effect] as Job
  if (state.now >= job.leaseEnd) {
    assert.equal(answer.body.code, 'lease-expired', answer.text)
    return state
  }
  assert.equal(answer.status, 200, answer.text)
  const leaseEnd = Math.max(job.leaseEnd, state.now + lease)
  const after = { ...state, jobs: { ...state.jobs, [effect]: { ...job, leaseEnd } } }
  return alive(after, effect) ? keepPermit(after, effect, leaseEnd - state.now) : after
}

function report(state: State, operation: Operation & { effect: string }, settings: Settings, answer: Answer): State {
  const { effect, kind } = operation
  const job = state.jobs[effect]
  assert.ok(job)
  if (kind === 'release' && state.now >= job.leaseEnd) {
    assert.equal(answer.body.code, 'lease-expired', answer.text)
    return state
  }
  assert.equal(answer.status, 200, answer.text)
  const after = { ...state, jobs: without(state.jobs, effect) }
  if (kind === 'complete') return succeeded(after, effect, effect, settings)
  if (kind === 'release') return endPermit(after, effect)
  const counts = operation.kind === 'fail' && operation.error === 'counting'
  return failed(after, { event: effect, permit: effect, owner: 'bot', counts, hold: false, begun: job.begun }, settings)
}

/** The state after an operation that was answered so. Throws an AssertionError where the contract says another answer. */
export function step(settings: Settings, before: State, operation: Operation, answer: Answer): State {
  if (operation.kind === 'move') return { ...before, now: before.now + operation.seconds }
  const state = settled(before, settings)
  switch (operation.kind) {
    case 'check': {
      const asked = ask(state, operation.probe, settings.probeTimeout, settings)
      const { allowed, reason } = answer.body
      assert.deepEqual([allowed, reason], [asked.allowed, asked.reason])
      return asked.state
    }
    case 'failure': {
      const { event, probe: permit, owner, error } = operation
      const facts = { counts: error !== 'harmless', hold: error === 'hold' }
      return look(failed(state, { event, permit, owner, ...facts }, settings), settings, answer)
    }
    case 'success':
      return look(succeeded(state, operation.probe, operation.event, settings), settings, answer)
    case 'override':
      return override(state, operation, settings, answer)
    case 'reset': {
      const { overridden } = state
      const moved = move(state, 'closed', 'reset', settings)
      return look({ ...moved, hold: 0, overridden: overridden + 1 }, settings, answer)
    }
    case 'get':
      return look(state, settings, answer)
    case 'claim':
      return claim(state, operation, settings, answer)
    case 'renew':
      return renew(state, operation.effect, operation.lease, answer)
    default:
      return report(state, operation, settings, answer)
  }
}
