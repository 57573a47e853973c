/**
 * A worker as the contract asks for it: it claims with a claim_id of its own, sends the same again through lost replies,
 * executes before its lease is over, and says what it knows and what it does not. Now and then it dies, sleeps, or a
 * proxy repeats what it sent.
 */
import { randomUUID } from 'node:crypto'
import type { Answer, Caller, Claim, Effect } from './caller.ts'
import type { ExchangeAnswer, ExchangeLink } from './exchange.ts'
import type { Random } from './random.ts'

export type Habits = {
  leaseSeconds: number
  /** How long a call is repeated, and the pause before each. */
  patienceMs: number
  pauseMs: number
  /** How long a worker that is slow holds on to what it has executed. */
  napMs: number
  napChance: number
  /** How long some claims wait for what becomes of a running attempt. */
  waitSeconds: number
  /** At each of two points of an attempt. */
  deathChance: number
}

export type WorkerTools = {
  name: string
  caller: Caller
  exchange: ExchangeLink
  random: Random
  habits: Habits
  nowMs: () => number
  sleep: (ms: number) => Promise<unknown>
}

/** The worker is gone: it tells nobody. */
export class Death extends Error {}

const isUnanswered = ({ told: { status } }: Answer): boolean => status === 0 || status >= 500

/** Sends the same call until it is answered or patience ends. */
async function insist(tools: WorkerTools, send: () => Promise<Answer>): Promise<Answer> {
  const { nowMs, sleep, random, habits } = tools
  const until = nowMs() + habits.patienceMs
  for (;;) {
    const answer = await send()
    if (!isUnanswered(answer) || nowMs() > until) return answer
    await sleep(habits.pauseMs * random.between(0.5, 1.5))
  }
}

const mayDie = ({ random, habits }: WorkerTools): void => {
  if (random.chance(habits.deathChance)) throw new Death()
}

type Held = { effect: Effect; token: number; reference: string; deadlineMs: number; claim: Claim }

/** What the exchange's answer means, as `fail` tells it; undefined: it was carried out. */
function failureOf(answer: ExchangeAnswer | undefined) {
  if (!answer) return { error: 'ECONNRESET', execution: 'unknown', retryable: true }
  const { status, body } = answer
  if (status === 200) return undefined
  const error = { message: body.msg ?? '', code: body.code ?? 0 }
  if (body.code === -1007) return { error, execution: 'unknown', retryable: true }
  if (/duplicate/i.test(error.message)) return { error, execution: 'yes', retryable: false }
  return { error, execution: 'no', retryable: body.code === -1003 || body.code === -1021 }
}

/** Whoever has slept too long must not send any more. */
async function place(tools: WorkerTools, { effect, token, reference, deadlineMs }: Held) {
  if (tools.nowMs() >= deadlineMs) return { status: 400, body: { code: -1021, msg: 'my lease is over' } }
  return tools.exchange.place({ id: reference, deadlineMs, effect: effect.effect_id, token })
}

/** What a proxy or a confused caller may send again once its attempt is over; none of it may change anything. */
async function repeatOneself(tools: WorkerTools, { effect, token, claim }: Held, outcome?: string): Promise<void> {
  const { caller, random } = tools
  const harmless = ['claim', 'release', 'renew'] as const
  const again = random.pick(outcome === 'completed' ? ([...harmless, 'complete', 'fail'] as const) : harmless)
  if (again === 'claim') await caller.claim(effect, claim)
  else if (again === 'complete') await caller.complete(effect.effect_id, token, { order: 'another' })
  else if (again === 'release') await caller.release(effect.effect_id, token)
  else if (again === 'renew') await caller.renew(effect.effect_id, token, claim.lease_seconds)
  else await caller.fail(effect.effect_id, token, { error: 'again', execution: 'unknown', retryable: true })
}

async function execute(tools: WorkerTools, held: Held): Promise<Answer> {
  const { caller, random, habits, sleep } = tools
  const { effect, token } = held
  mayDie(tools)
  if (random.chance(0.03)) return insist(tools, () => caller.release(effect.effect_id, token))
  if (random.chance(0.05)) await caller.renew(effect.effect_id, token, habits.leaseSeconds)
  const placed = await place(tools, held)
  mayDie(tools)
  if (random.chance(habits.napChance)) await sleep(habits.napMs)
  const failure = failureOf(placed)
  if (failure) return insist(tools, () => caller.fail(effect.effect_id, token, failure))
  const result = { order: placed?.body.orderId }
  return insist(tools, () => caller.complete(effect.effect_id, token, result))
}

const newClaim = ({ name, habits }: WorkerTools, signal: boolean): Claim => ({
  owner: name,
  claim_id: randomUUID(),
  lease_seconds: habits.leaseSeconds,
  on_lease_expiry: signal ? 'reclaim' : 'hold',
  ...(signal ? {} : { job_type: 'orders' }),
})

/** One attempt at one order; answers whether a claim was told that the order is settled. */
export async function work(tools: WorkerTools, effect: Effect): Promise<boolean> {
  const { caller, habits, random, nowMs } = tools
  const signal = effect.type === 'signal_consumption'
  const claim = newClaim(tools, signal)
  // A signal may be consumed by its claim: grant and completion in one.
  if (signal && random.chance(0.5)) claim.result = { consumed: effect.entity }
  else if (random.chance(0.15)) claim.wait_seconds = habits.waitSeconds
  // The lease cannot have begun before the first claim was sent.
  const deadlineMs = nowMs() + habits.leaseSeconds * 1000
  const { told } = await insist(tools, () => caller.claim(effect, claim))
  if (told.status !== 201 || told.outcome === 'completed') return told.status === 200
  const { token = 0, reference = '' } = told
  const held = { effect, token, reference, deadlineMs, claim }
  const { told: end } = await execute(tools, held)
  if (end.status === 200 && random.chance(0.1)) await repeatOneself(tools, held, end.outcome)
  return false
}
