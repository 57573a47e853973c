/**
 * What a job type brings with it: a claim meets its breaker, and what comes of the attempt feeds breaker and retry
 * metrics, once per token. None of it can fail the call that it follows.
 */
import type { Logger } from 'pino'
import type { Classification } from '../failures/classify.ts'
import type { Problem } from '../problems.ts'
import { effectProblem, type Subject } from './present.ts'
import type { EffectRecord } from './scripts.ts'

/** Why a breaker refuses, for the answer. */
export type BreakerRefusal = {
  breaker_state: string
  reason: string
  requires_override: boolean
  hold_until: string | null
  retry_after_seconds: number | null
}

/** `begun_us`: when the attempt was granted, Redis's microseconds; one from before an opening moves nothing. */
type JobReport = { permit: string; event_id: string; begun_us: number }

/** `probe_id`: the permit of an earlier check, which becomes this one. */
type PermitRequest = { permit: string; probe_id?: string; lease_ms: number }

/** The breakers, as effects need them; src/services.ts passes it. */
export type BreakerGate = {
  /** No round trip for a job type that this process knows. `ask`: half-open, so a permit must be taken. */
  view: (
    namespace: string,
    jobType: string,
  ) => Promise<{ verdict: 'pass' | 'ask' | 'refuse'; refusal?: BreakerRefusal }>
  take: (
    namespace: string,
    jobType: string,
    permit: PermitRequest,
  ) => Promise<{ allowed: true } | { allowed: false; refusal: BreakerRefusal }>
  giveBack: (namespace: string, jobType: string, permit: string) => Promise<void>
  extend: (namespace: string, jobType: string, permit: string, leaseMs: number) => Promise<void>
  succeeded: (namespace: string, jobType: string, report: JobReport) => Promise<void>
  /** Answers the breaker after it. `refuses`: it is open. `holdUntilMs`: nothing goes before; 0 where nothing is held. */
  failed: (
    namespace: string,
    jobType: string,
    report: JobReport & { owner: string; classification: Classification },
  ) => Promise<{ state: string; refuses: boolean; holdUntilMs: number }>
}

export type RetryRecord = {
  kind: 'first_attempt' | 'attempt' | 'success' | 'failure' | 'blocked'
  event_id: string
  attempt_number?: number
  reason?: string
}

export type JobsDependencies = {
  gate: BreakerGate
  /** Records for the retry metrics without waiting. */
  record: (namespace: string, jobType: string, record: RetryRecord) => void
  /** Whether the fleet's retries of this job type have used up their budget; asks, and records nothing. */
  budgetSpent: (namespace: string, jobType: string) => Promise<boolean>
  log: Logger
}

/** 409 `circuit-open`. `record` is null for an effect that nobody has claimed. */
export function circuitOpen(
  subject: Subject,
  record: EffectRecord | null,
  jobType: string,
  refusal: BreakerRefusal,
): Problem {
  const { retry_after_seconds, ...told } = refusal
  const members = {
    outcome: 'circuit_open',
    job_type: jobType,
    ...told,
    ...(retry_after_seconds === null ? {} : { retry_after_seconds }),
  }
  const detail = `The breaker of ${jobType} refuses: ${refusal.reason}.`
  return effectProblem('circuit-open', detail, subject, record, members)
}

export function createJobs({ gate, record, budgetSpent, log }: JobsDependencies) {
  /** The call has been answered by its script already: trouble here is logged, not told. */
  async function quietly<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work
    } catch (error) {
      log.warn({ err: error }, 'the breaker could not be told')
      return undefined
    }
  }

  const eventOf = ({ effectId }: Subject, { token }: EffectRecord): string => `${effectId}:${token}`

  return {
    ...{ view: gate.view, take: gate.take, budgetSpent },
    /** A permit that was taken for a claim becomes that of the effect. */
    keep: (namespace: string, jobType: string, permit: PermitRequest) => quietly(gate.take(namespace, jobType, permit)),
    giveBack: (namespace: string, jobType: string, permit: string) =>
      quietly(gate.giveBack(namespace, jobType, permit)),
    blocked: (namespace: string, jobType: string, event_id: string, reason: string) =>
      record(namespace, jobType, { kind: 'blocked', event_id, reason }),

    /** An attempt from the second on is a retry; the first one feeds the budget for retries. */
    granted(subject: Subject, effect: EffectRecord): void {
      if (effect.jobType === '') return
      const { attempt: attempt_number } = effect
      const told: RetryRecord =
        attempt_number === 1
          ? { kind: 'first_attempt', event_id: subject.effectId }
          : { kind: 'attempt', event_id: eventOf(subject, effect), attempt_number }
      record(subject.namespace, effect.jobType, told)
    },

    async completed(subject: Subject, effect: EffectRecord): Promise<void> {
      if (effect.jobType === '') return
      const event_id = eventOf(subject, effect)
      if (effect.attempt > 1) record(subject.namespace, effect.jobType, { kind: 'success', event_id })
      const report = { permit: subject.effectId, event_id, begun_us: effect.token }
      await quietly(gate.succeeded(subject.namespace, effect.jobType, report))
    },

    /** Answers the breaker after it, where it could be told. */
    async failed(subject: Subject, effect: EffectRecord, jobType: string, classification: Classification) {
      const event_id = eventOf(subject, effect)
      if (effect.attempt > 1) record(subject.namespace, jobType, { kind: 'failure', event_id })
      const report = { permit: subject.effectId, event_id, begun_us: effect.token, owner: effect.owner, classification }
      return quietly(gate.failed(subject.namespace, jobType, report))
    },

    async released(subject: Subject, effect: EffectRecord): Promise<void> {
      if (effect.jobType !== '') await quietly(gate.giveBack(subject.namespace, effect.jobType, subject.effectId))
    },

    async renewed(subject: Subject, effect: EffectRecord): Promise<void> {
      if (effect.jobType === '') return
      const leaseMs = effect.leaseExpiresAt - subject.nowMs
      await quietly(gate.extend(subject.namespace, effect.jobType, subject.effectId, leaseMs))
    },
  }
}

export type Jobs = ReturnType<typeof createJobs>
