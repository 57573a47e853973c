/** Whether a failed attempt should be tried again, and when: a pure decision, in the order of the contract. */
import type { Classification, Execution } from '../failures/classify.ts'

export type RetryReason =
  'retry' | 'reconcile_first' | 'not_retryable' | 'attempts_exhausted' | 'circuit_open' | 'budget_exhausted'

/** How long to wait before the next attempt; seconds. */
export type BackoffPolicy = {
  cooldown_seconds: number
  exponential_backoff: boolean
  max_cooldown_seconds: number
  jitter: 'none' | 'full' | 'equal'
}

export type RetryQuestion = {
  /** The attempt that failed, from 1. */
  attempt: number
  maxAttempts: number
  execution: Execution
  retryable: boolean
  /** The effect may not be handed out while nobody knows whether it happened. */
  hold: boolean
  circuitOpen: boolean
  /** How long the breaker is held yet, because the exchange named a time; 0 if it is not. */
  holdSeconds: number
  budgetExhausted: boolean
  /** What the exchange asked for, seconds. */
  retryAfterSeconds: number | null
  backoff: BackoffPolicy
  /** 0 up to but not including 1, for the jitter. */
  random: number
}

export type RetryAdvice = { retry: boolean; reason: RetryReason; wait_seconds: number | null; attempts_left: number }

/** Seconds to wait after attempt `attempt`: the cooldown, doubled each time, capped, with jitter; at least what was asked for. */
export function backoffSeconds(
  policy: BackoffPolicy,
  attempt: number,
  retryAfterSeconds: number | null,
  random: number,
): number {
  const grown = policy.cooldown_seconds * (policy.exponential_backoff ? 2 ** Math.min(attempt - 1, 64) : 1)
  const capped = Math.min(grown, policy.max_cooldown_seconds)
  const jittered = { none: capped, full: capped * random, equal: capped / 2 + (capped / 2) * random }[policy.jitter]
  return Math.max(Math.round(jittered * 1000) / 1000, retryAfterSeconds ?? 0)
}

function reasonFor(question: RetryQuestion): RetryReason {
  const { execution } = question
  if (execution === 'yes' || execution === 'partial' || (execution === 'unknown' && question.hold))
    return 'reconcile_first'
  if (!question.retryable) return 'not_retryable'
  if (question.attempt >= question.maxAttempts) return 'attempts_exhausted'
  if (question.circuitOpen) return 'circuit_open'
  if (question.budgetExhausted) return 'budget_exhausted'
  return 'retry'
}

/**
 * What follows from a reason. `wait_seconds` is null where there is no retry. A hold of the breaker ends by itself, and so
 * makes a retry wait and does not refuse it.
 */
export function adviseFor(reason: RetryReason, question: RetryQuestion): RetryAdvice {
  const { attempt, maxAttempts, backoff, retryAfterSeconds, holdSeconds, random } = question
  const retry = reason === 'retry'
  const leastSeconds = Math.max(retryAfterSeconds ?? 0, holdSeconds)
  return {
    retry,
    reason,
    wait_seconds: retry ? backoffSeconds(backoff, attempt, leastSeconds, random) : null,
    attempts_left: Math.max(0, maxAttempts - attempt),
  }
}

/** The decision for one failed attempt. */
export const decideRetry = (question: RetryQuestion): RetryAdvice => adviseFor(reasonFor(question), question)

/** The answer of `/retries/decide`, and the `retry` of a failed effect. */
export type RetryDecision = RetryAdvice & {
  not_before: string | null
  classification: Classification
  breaker: { state: string }
}

/** The advice as callers see it; `nowMs` is Redis's time. */
export function describeDecision(
  advice: RetryAdvice,
  classification: Classification,
  nowMs: number,
  breakerState: string,
): RetryDecision {
  const { wait_seconds } = advice
  return {
    ...advice,
    not_before: wait_seconds === null ? null : new Date(Math.ceil(nowMs + wait_seconds * 1000)).toISOString(),
    classification,
    breaker: { state: breakerState },
  }
}
