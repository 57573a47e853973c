/** Whether a failed attempt should be tried again, asked of the whole fleet: breaker, budget and metrics are shared. */
import type { Classification } from '../failures/classify.ts'
import { secondsUntil } from '../instant.ts'
import { adviseFor, type BackoffPolicy, decideRetry, describeDecision, type RetryDecision } from './decide.ts'
import type { RetryMetrics } from './metrics.ts'

export type DecideRequest = {
  job_type: string
  /** The one that failed, from 1. */
  attempt: number
  error: unknown
  effect_id?: string | undefined
  /** Reports the failure to the breaker too. */
  record_failure?: boolean | undefined
  owner?: string | undefined
  event_id?: string | undefined
}

/** A failure as the breaker is told of it. */
export type FailureReport = {
  owner: string | undefined
  event_id: string | undefined
  error: unknown
  classification: Classification
}

/** `refuses`: it is open. `holdUntilMs`: nothing goes before, Redis's time; 0 where nothing is held. */
export type BreakerWord = { state: string; refuses: boolean; holdUntilMs: number }

/** What a decision needs of the other concepts; src/services.ts passes it. */
export type DecisionsDependencies = {
  /** Redis's time, milliseconds. */
  nowMs: () => Promise<number>
  /** 0 up to but not including 1, for the jitter. */
  random: () => number
  classify: (error: unknown, nowMs: number) => Classification
  breaker: {
    word: (namespace: string, jobType: string) => Promise<BreakerWord>
    failed: (namespace: string, jobType: string, report: FailureReport) => Promise<unknown>
  }
  /** Of the stored effect, else of its type. */
  effectPolicy: (namespace: string, effectId: string) => Promise<'hold' | 'reclaim'>
  /** `type` is the effect's, null where none is named. */
  maxAttempts: (type: string | null, jobType: string) => number
  backoff: (jobType: string) => BackoffPolicy
  metrics: Pick<RetryMetrics, 'settle'>
  /** Takes one line for each decision; must not throw. */
  decisions: { write: (line: DecisionLine) => void }
}

/** One decision, for the audit files. */
export type DecisionLine = {
  at: string
  namespace: string
  job_type: string | null
  attempt: number
  effect_id: string | null
  owner: string | null
  event_id: string | null
  retry: boolean
  reason: string
  wait_seconds: number | null
  attempts_left: number
  breaker_state: string
} & Pick<Classification, 'failure_type' | 'execution' | 'code' | 'exchange' | 'market' | 'rule'>

function lineOf(namespace: string, request: DecideRequest, decision: RetryDecision, nowMs: number): DecisionLine {
  const { failure_type, execution, code, exchange, market, rule } = decision.classification
  return {
    at: new Date(nowMs).toISOString(),
    namespace,
    job_type: request.job_type,
    attempt: request.attempt,
    effect_id: request.effect_id ?? null,
    owner: request.owner ?? null,
    event_id: request.event_id ?? null,
    retry: decision.retry,
    reason: decision.reason,
    wait_seconds: decision.wait_seconds,
    attempts_left: decision.attempts_left,
    breaker_state: decision.breaker.state,
    ...{ failure_type, execution, code, exchange, market, rule },
  }
}

export function createDecisions(dependencies: DecisionsDependencies) {
  const { breaker, metrics } = dependencies

  /** The breaker after the report of this failure, if it is to be reported. */
  async function meetBreaker(namespace: string, request: DecideRequest, classification: Classification) {
    if (request.record_failure) {
      const { owner, event_id, error } = request
      await breaker.failed(namespace, request.job_type, { owner, event_id, error, classification })
    }
    return breaker.word(namespace, request.job_type)
  }

  async function holds(namespace: string, effectId: string | undefined): Promise<boolean> {
    return effectId !== undefined && (await dependencies.effectPolicy(namespace, effectId)) === 'hold'
  }

  return {
    /**
     * Decides, and records the retry or the block. The same `event_id` again is told the first reason and counts nothing.
     * Throws `store-unavailable`.
     */
    async decide(namespace: string, request: DecideRequest): Promise<RetryDecision> {
      const { job_type, attempt, event_id, effect_id } = request
      const nowMs = await dependencies.nowMs()
      const classification = dependencies.classify(request.error, nowMs)
      const { state, refuses, holdUntilMs } = await meetBreaker(namespace, request, classification)
      const question = {
        attempt,
        maxAttempts: dependencies.maxAttempts(effect_id?.split('.')[0] ?? null, job_type),
        execution: classification.execution,
        retryable: classification.retryable,
        hold: await holds(namespace, effect_id),
        circuitOpen: refuses,
        holdSeconds: secondsUntil(holdUntilMs, nowMs),
        budgetExhausted: false,
        retryAfterSeconds: classification.retry_after_seconds,
        backoff: dependencies.backoff(job_type),
        random: dependencies.random(),
      }
      const wanted = decideRetry(question)
      const record = { reason: wanted.reason, attempt, event_id, effect_id }
      const { reason, repeated } = await metrics.settle(namespace, job_type, record)
      const advice = reason === wanted.reason ? wanted : adviseFor(reason, question)
      const decision = describeDecision(advice, classification, nowMs, state)
      if (!repeated) dependencies.decisions.write(lineOf(namespace, request, decision, nowMs))
      return decision
    },
  }
}
