/** A claim that waits for the end of what is in progress, and then asks again: for whoever would only come back to ask. */
import { Problem } from '../problems.ts'
import { claim, type ClaimAnswer, type ClaimRequest } from './claim.ts'
import type { Context } from './context.ts'
import { fingerprintOf } from './identity.ts'
import type { Caller, Outcome, Waiting } from './waiting.ts'

export type WaitingClaim = ClaimRequest & { wait_seconds?: number | undefined }

type Waiter = NonNullable<ReturnType<Waiting['join']>>

/**
 * All that a claim needs that is sent more than once, and no more, for thousands may wait: of a payload its fingerprint, and
 * not where the effect lies.
 */
function lasting({ located: _, payload, ...request }: ClaimRequest): ClaimRequest {
  const fingerprint = request.fingerprint ?? (payload === undefined ? undefined : fingerprintOf(payload))
  return { ...request, fingerprint, awaits: true }
}

function outcomeOf(answer: ClaimAnswer | undefined, error: unknown): Outcome | undefined {
  if (answer) return answer.body.outcome === 'claimed' ? 'granted' : 'settled'
  if (!(error instanceof Problem) || error.status >= 500) return 'trouble'
  if (error.slug === 'effect-in-progress') return undefined
  return error.slug === 'effect-uncertain' ? 'settled' : 'refused'
}

/** The store was in trouble and has granted nothing for certain. */
const notExecuted = (error: unknown): boolean =>
  error instanceof Problem && error.slug === 'store-unavailable' && error.members['reason'] !== 'outcome_unknown'

/**
 * Sends the claim again whenever its turn has come. Throws what any claim would be refused with; trouble with the store only
 * where it may have granted the effect, or the wait is over: who has got nothing waits on. A grant whose caller has gone
 * meanwhile is not given back: the same claim_id may have come again, and been told that it holds the effect.
 */
async function attend(
  context: Context,
  namespace: string,
  request: ClaimRequest,
  waiter: Waiter,
  endMs: number,
): Promise<ClaimAnswer> {
  let turn: 'first' | 'ask' | 'over' = 'first'
  for (;;) {
    waiter.begins()
    try {
      return await claim(context, namespace, request)
    } catch (error) {
      if (error instanceof Problem && error.slug === 'effect-in-progress') waiter.met(error)
      else if (turn === 'ask' && notExecuted(error)) waiter.failed()
      else throw error
    }
    const reason = await waiter.park(endMs)
    if (reason === 'answer') break
    turn = reason
  }
  context.observe.claim(context.locate(namespace, request).type, 'in_progress')
  throw waiter.answer()
}

/** Undefined where nobody may wait. */
function seat(context: Context, namespace: string, request: ClaimRequest, caller: Caller): Waiter | undefined {
  const { type, keys } = context.locate(namespace, request)
  return context.typePolicy(type).mode === 'shadow' ? undefined : context.waiting.join(keys[0], caller)
}

async function wait(
  context: Context,
  namespace: string,
  { wait_seconds, ...request }: WaitingClaim & { wait_seconds: number },
  caller: Caller,
): Promise<ClaimAnswer> {
  const startMs = performance.now()
  const waiter = seat(context, namespace, request, caller)
  if (!waiter) return claim(context, namespace, request)
  let answer: ClaimAnswer | undefined
  let failure: unknown
  try {
    answer = await attend(context, namespace, lasting(request), waiter, startMs + wait_seconds * 1000)
    return answer
  } catch (error) {
    failure = error
    throw error
  } finally {
    waiter.leave(outcomeOf(answer, failure))
    caller.waited(performance.now() - startMs)
  }
}

/**
 * Claims; where another holder's lease is alive, waits up to `wait_seconds` for the effect to settle, to become claimable or
 * to turn uncertain. Nobody waits in shadow mode, while the process drains, or beyond `limits.waitersMax`.
 */
export function claimOrWait(
  context: Context,
  namespace: string,
  request: WaitingClaim,
  caller?: Caller,
): Promise<ClaimAnswer> {
  const { wait_seconds = 0, effect_id } = request
  if (effect_id !== undefined) context.typePolicy(context.locate(namespace, request).type, '/effect_id')
  return wait_seconds === 0 || !caller
    ? claim(context, namespace, request)
    : wait(context, namespace, { ...request, wait_seconds }, caller)
}
