/**
 * What the contract says of one effect, as a pure function: `step(state, operation, answer)` is the state after it, or
 * throws with what is wrong. It knows nothing of scripts, keys or bytes. Seconds count from the start of a run; leases
 * end half-way between two instants that the clock can stand at, so that the time a run takes does not matter.
 */
import assert from 'node:assert/strict'
import type { Answer } from '../helpers/app.ts'

export const maxAttempts = 2
/** The clock moves by multiples of this; a lease is longer by half of it. */
export const clockStep = 20
export const leaseOf = (steps: number): number => steps * clockStep + clockStep / 2

type Policy = 'hold' | 'reclaim'
export type Execution = 'no' | 'unknown' | 'yes' | 'partial'
export type Resolution = 'executed' | 'not_executed' | 'abandoned'

export type Claim = {
  kind: 'claim'
  owner: string
  /** Absent: nobody can repeat this claim. */
  claim_id?: string
  fingerprint?: string
  lease: number
  policy: Policy
  result?: number
}
export type Operation =
  | Claim
  | { kind: 'complete'; token: number; result: number }
  | { kind: 'fail'; token: number; execution: Execution; retryable: boolean }
  | { kind: 'release'; token: number }
  | { kind: 'renew'; token: number; lease: number }
  | { kind: 'resolve'; token?: number; resolution: Resolution; worker: boolean }
  | { kind: 'delete'; token?: number }
  | { kind: 'get' }
  | { kind: 'sweep' }
  | { kind: 'move'; seconds: number }

/** Why the last attempt is over; a repeat of the same call is known by it. */
type Ended = '' | 'lease' | 'exhausted' | `${Exclude<Operation['kind'], 'claim'>} ${string}`

type Effect = {
  state: 'in_progress' | 'completed' | 'failed' | 'released' | 'uncertain'
  owner: string
  claim: string
  policy: Policy
  leaseEnd: number
  lease: number
  attempt: number
  /** The current attempt, or an earlier one since the last resolve, ended without anybody knowing. */
  doubt: boolean
  earlierDoubt: boolean
  fingerprint: string
  result: number | null
  ended: Ended
}

export type State = {
  now: number
  effect: Effect | null
  /** The last token; it outlives the record. */
  token: number
  /** Claims that ended without settling the effect, oldest first. */
  ended: readonly string[]
  /** Events that must have been told so far. */
  told: { uncertain: number; reclaimed: number; late: number }
}

export const start: State = {
  ...{ now: 0, effect: null, token: 0, ended: [] },
  told: { uncertain: 0, reclaimed: 0, late: 0 },
}

type Known = State & { effect: Effect }

let anonymous = 0
const nameOf = ({ owner, claim_id }: Claim) => JSON.stringify([owner, claim_id ?? ++anonymous])
const claimsRemembered = 8

/** `409 effect-in-progress`, `201 claimed replayed`. */
const wordsOf = ({ status, body }: Answer): string =>
  [status, body?.code ?? body?.outcome, body?.replayed === true ? 'replayed' : undefined]
    .filter((word) => word !== undefined)
    .join(' ')

function expect(answer: Answer, ...words: string[]): void {
  assert.ok(words.includes(wordsOf(answer)), `${wordsOf(answer)}, not ${words.join(' or ')}: ${answer.text}`)
}

const withEffect = <S extends State>(state: S, changes: Partial<Effect>): Known => {
  assert.ok(state.effect)
  return { ...state, effect: { ...state.effect, ...changes } }
}

const tell = <S extends State>(state: S, event: keyof State['told']): S => ({
  ...state,
  told: { ...state.told, [event]: state.told[event] + 1 },
})

const retire = <S extends Known>(state: S): S => ({
  ...state,
  ended: [...state.ended.filter((claim) => claim !== state.effect.claim), state.effect.claim].slice(-claimsRemembered),
})

/** Whoever claimed last has settled the effect after all, and may be told so. */
const settle = <S extends Known>(state: S): S => ({
  ...state,
  ended: state.ended.filter((claim) => claim !== state.effect.claim),
})

const silent = ({ now, effect }: State): boolean => effect?.state === 'in_progress' && now >= effect.leaseEnd

/** Somebody notices that the holder is silent. */
function lapse(state: State): State {
  if (!state.effect || !silent(state)) return state
  const held = state.effect.policy === 'hold'
  const changes = { state: held ? 'uncertain' : 'released', doubt: true, ended: 'lease' } as const
  const after = retire(withEffect(state, changes))
  return held ? tell(after, 'uncertain') : after
}

const doubtful = ({ doubt, earlierDoubt }: Effect): boolean => doubt || earlierDoubt

function exhaust(state: Known, answer: Answer): State {
  if (!doubtful(state.effect)) {
    expect(answer, '200 failed')
    assert.equal(answer.body.error.code, 'attempts_exhausted')
    return withEffect(state, { state: 'failed', ended: 'exhausted' })
  }
  expect(answer, '409 effect-uncertain')
  return tell(withEffect(state, { state: 'uncertain', ended: 'exhausted' }), 'uncertain')
}

function grant(before: State, name: string, claim: Claim, answer: Answer): State {
  const old = before.effect
  expect(answer, claim.result === undefined ? '201 claimed' : '201 completed')
  const { fencing_token: token, attempt } = answer.body
  assert.ok(token > before.token, `the token rises: ${token} after ${before.token}`)
  assert.equal(attempt, (old?.attempt ?? 0) + 1)
  const effect: Effect = {
    state: claim.result === undefined ? 'in_progress' : 'completed',
    ...{ owner: claim.owner, claim: name, policy: claim.policy, attempt, doubt: false },
    ...{ lease: claim.lease, leaseEnd: before.now + claim.lease, result: claim.result ?? null },
    earlierDoubt: old ? doubtful(old) : false,
    fingerprint: claim.fingerprint ?? old?.fingerprint ?? '',
    ended: claim.result === undefined ? '' : `complete ${claim.result}`,
  }
  const after = { ...before, effect, token }
  return old?.doubt ? tell(after, 'reclaimed') : after
}

function claim(before: State, operation: Claim, answer: Answer): State {
  const name = nameOf(operation)
  const state = lapse(before)
  const { effect } = state
  const differs = effect && operation.fingerprint && effect.fingerprint && operation.fingerprint !== effect.fingerprint
  const own = effect?.claim === name && !state.ended.includes(name)
  const settledByIt = effect?.state === 'completed' && operation.result !== undefined
  if (differs) expect(answer, '422 fingerprint-mismatch')
  else if (own && (effect.state === 'in_progress' || settledByIt)) {
    expect(answer, `201 ${effect.state === 'in_progress' ? 'claimed' : 'completed'} replayed`)
    assert.equal(answer.body.fencing_token, state.token)
  } else if (state.ended.includes(name)) expect(answer, '409 claim-ended')
  else if (effect?.state === 'completed') {
    expect(answer, '200 completed replayed')
    assert.equal(answer.body.result, effect.result)
  } else if (effect?.state === 'failed') expect(answer, '200 failed replayed')
  else if (effect?.state === 'in_progress') expect(answer, '409 effect-in-progress')
  else if (effect?.state === 'uncertain') expect(answer, '409 effect-uncertain')
  else if (effect && effect.attempt >= maxAttempts) return exhaust({ ...state, effect }, answer)
  else return grant(state, name, operation, answer)
  return state
}

/** 404, or 409 `stale-token`; else the state with its effect. A stale report of an execution is told as late. */
function current(state: State, token: number, answer: Answer, late: boolean): Known | { refused: State } {
  const { effect } = state
  if (effect && token === state.token) return { ...state, effect }
  const known = effect !== null || token <= state.token
  expect(answer, known ? '409 stale-token' : '404 effect-not-found')
  return { refused: known && late ? tell(state, 'late') : state }
}

function complete(before: State, token: number, result: number, answer: Answer): State {
  const confirms = before.effect?.state === 'completed' && before.effect.result === result
  const state = current(before, token, answer, !confirms)
  if ('refused' in state) return state.refused
  if (state.effect.state === 'completed') {
    expect(answer, confirms ? '200 completed replayed' : '409 result-conflict')
    return state
  }
  if (state.effect.state === 'failed') {
    expect(answer, '409 already-settled')
    return tell(state, 'late')
  }
  expect(answer, '200 completed')
  const noticed = lapse(state) as Known
  return settle(withEffect(noticed, { state: 'completed', result, doubt: false, ended: `complete ${result}` }))
}

function fail(before: State, operation: Operation & { kind: 'fail' }, answer: Answer): State {
  const { execution, retryable } = operation
  const state = current(before, operation.token, answer, execution !== 'no')
  if ('refused' in state) return state.refused
  const { effect } = state
  const call = `fail ${execution} ${retryable}` as const
  if (effect.ended === call) {
    expect(answer, `200 ${effect.state} replayed`)
    return state
  }
  const open = ['in_progress', 'uncertain'].includes(effect.state) || effect.ended === 'lease'
  if (!open) {
    expect(answer, '409 already-settled')
    return state
  }
  const noticed = lapse(state)
  const doubt = execution !== 'no'
  const unclear = execution === 'yes' || execution === 'partial' || (doubt && effect.policy === 'hold')
  const again = retryable && effect.attempt < maxAttempts
  const settled = doubt || effect.earlierDoubt ? 'uncertain' : 'failed'
  const outcome = unclear ? 'uncertain' : again ? 'released' : settled
  expect(answer, `200 ${outcome}`)
  const after = withEffect(noticed, { state: outcome, doubt, ended: call })
  // A holder that fell silent before has been told of already.
  const told = outcome === 'uncertain' && noticed.told.uncertain === state.told.uncertain
  const retold = told ? tell(after, 'uncertain') : after
  return outcome === 'failed' ? settle(retold) : retire(retold)
}

/** Release and renew need a living lease. */
function leased(before: State, token: number, answer: Answer): Known | { refused: State } {
  const state = current(before, token, answer, false)
  if ('refused' in state) return state
  if (silent(state) || state.effect.ended === 'lease') {
    expect(answer, '409 lease-expired')
    return { refused: state }
  }
  if (state.effect.state === 'in_progress') return state
  expect(answer, '409 already-settled')
  return { refused: state }
}

function release(before: State, token: number, answer: Answer): State {
  if (before.effect?.ended === 'release ' && token === before.token) {
    expect(answer, '200 released replayed')
    return before
  }
  const state = leased(before, token, answer)
  if ('refused' in state) return state.refused
  expect(answer, '200 released')
  const attempt = state.effect.attempt - 1
  return retire(withEffect(state, { state: 'released', attempt, ended: 'release ' }))
}

function renew(before: State, token: number, lease: number, answer: Answer): State {
  const state = leased(before, token, answer)
  if ('refused' in state) return state.refused
  expect(answer, '200 renewed')
  const leaseEnd = Math.max(state.effect.leaseEnd, state.now + lease)
  const remaining = Number(answer.body.lease_remaining_seconds)
  const off = Math.abs(remaining - (leaseEnd - state.now))
  assert.ok(off < clockStep / 2, `${remaining} s remain, not ${leaseEnd - state.now}`)
  return withEffect(state, { leaseEnd })
}

function resolve(before: State, operation: Operation & { kind: 'resolve' }, answer: Answer): State {
  const { token, resolution, worker } = operation
  if (token === undefined && (worker || resolution === 'not_executed')) {
    expect(answer, '400 invalid-request')
    return before
  }
  if (!before.effect) {
    expect(answer, '404 effect-not-found')
    return before
  }
  const call = `resolve ${resolution} ${token} ${worker}` as const
  if (before.effect.ended === call) {
    assert.equal(answer.body.replayed, true)
    return before
  }
  if (token !== undefined && token !== before.token) {
    expect(answer, '409 stale-token')
    return before
  }
  if (before.effect.state === 'completed') {
    expect(answer, '409 already-settled')
    return before
  }
  const state = lapse(before) as Known
  if (worker && state.effect.state !== 'uncertain') {
    expect(answer, state.effect.state === 'in_progress' ? '409 effect-in-progress' : '409 already-settled')
    return before
  }
  assert.equal(answer.status, 200, answer.text)
  assert.ok(answer.body.fencing_token > state.token, 'the token moves on')
  const after = { ...state, token: Number(answer.body.fencing_token) }
  const common = { doubt: false, ended: call, result: null }
  if (resolution === 'executed') return settle(withEffect(after, { ...common, state: 'completed' }))
  if (resolution === 'abandoned') return settle(withEffect(after, { ...common, state: 'failed' }))
  return retire(withEffect(after, { ...common, state: 'released', attempt: 0, earlierDoubt: false }))
}

function remove(state: State, token: number | undefined, answer: Answer): State {
  if (!state.effect) expect(answer, '404 effect-not-found')
  else if (token !== undefined && token !== state.token) expect(answer, '409 stale-token')
  else if (['in_progress', 'uncertain'].includes(lapse(state).effect?.state ?? '')) expect(answer, '409 not-settled')
  else {
    assert.equal(answer.status, 204, answer.text)
    return { ...retire(lapse(state) as Known), effect: null }
  }
  return state
}

function get(before: State, answer: Answer): State {
  const state = lapse(before)
  const { effect } = state
  if (!effect) {
    expect(answer, '404 effect-not-found')
    return state
  }
  const { state: seen, fencing_token, attempt, result } = answer.body
  const expected = { seen: effect.state, fencing_token: state.token, attempt: effect.attempt }
  assert.deepEqual({ seen, fencing_token, attempt }, expected)
  if (effect.state === 'completed') assert.equal(result, effect.result)
  return state
}

/** The state after an operation that was answered so. Throws an AssertionError where the contract says another answer. */
export function step(state: State, operation: Operation, answer: Answer): State {
  switch (operation.kind) {
    case 'claim':
      return claim(state, operation, answer)
    case 'complete':
      return complete(state, operation.token, operation.result, answer)
    case 'fail':
      return fail(state, operation, answer)
    case 'release':
      return release(state, operation.token, answer)
    case 'renew':
      return renew(state, operation.token, operation.lease, answer)
    case 'resolve':
      return resolve(state, operation, answer)
    case 'delete':
      return remove(state, operation.token, answer)
    case 'get':
      return get(state, answer)
    case 'sweep':
      return lapse(state)
    case 'move':
      return { ...state, now: state.now + operation.seconds }
  }
}
