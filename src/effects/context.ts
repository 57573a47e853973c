/** What every operation on an effect shares: what it may use, which effect is meant, and who hears of it. */
import { hash } from 'node:crypto'
import type { Logger } from 'pino'
import type { AuditEntry } from '../audit/audit.ts'
import type { Events } from '../events/events.ts'
import type { Classification, Execution } from '../failures/classify.ts'
import type { JsonObject, RawJson } from '../json.ts'
import { invalidRequest, Problem } from '../problems.ts'
import type { ScriptArguments, Store } from '../redis/client.ts'
import type { RedisClock } from '../redis/clock.ts'
import type { Durability } from '../redis/group-commit.ts'
import type { Keys } from '../redis/keys.ts'
import type { ScriptDefinition } from '../redis/scripts.ts'
import type { DecisionLine } from '../retries/decisions.ts'
import { identify, parseEffectId } from './identity.ts'
import type { Jobs } from './jobs.ts'
import { effectProblem, type Subject } from './present.ts'
import type { EffectRecord, LeasePolicy } from './scripts.ts'
import type { Waiting } from './waiting.ts'

/** The settings of one effect type, defaults filled in. */
export type TypePolicy = {
  lease_seconds: number
  retention_seconds: number
  on_lease_expiry: LeasePolicy
  allow_reclaim: boolean
  /** `shadow`: duplicates are told apart but never refused. */
  mode: 'enforce' | 'shadow'
}

/** What is known of a failure when advice is asked for. */
export type FailureFacts = {
  attempt: number
  maxAttempts: number
  execution: Execution
  retryable: boolean
  hold: boolean
  classification: Classification
  jobType: string | null
  circuitOpen: boolean
  /** How long the breaker is held yet; 0 if it is not. */
  holdSeconds: number
  budgetSpent: boolean
}

export type RetryAdvice = { retry: boolean; reason: string; wait_seconds: number | null; attempts_left: number }

/** The audit, as effects need it. */
export type EffectsAudit = {
  /** The entry comes first, then the act; one that is refused after all gets a second entry. */
  act: <Result>(namespace: string, entry: AuditEntry, perform: () => Promise<Result>) => Promise<Result>
  append: (namespace: string, entry: AuditEntry) => Promise<void>
}

/** What effects need to know or to do outside themselves; src/services.ts passes it. */
export type EffectsDependencies = {
  store: Store
  keys: Keys
  events: Events
  /** Throws invalid-request for a type that is not allowed; `pointer`: where the type was sent, default `/type`. */
  typePolicy: (type: string, pointer?: string) => TypePolicy
  /** As `typePolicy`, of a type whose name is not judged. */
  defaults: (type: string) => TypePolicy
  /** What an answer about an effect of this type waits for. */
  durability: (type: string) => Durability
  maxAttempts: (type: string, jobType: string | null) => number
  maxResultBytes: number
  /** Whether new effects are refused, and the figures for the answer. */
  memory: () => { over: boolean; used_bytes: number; budget_bytes: number | null }
  /** `nowMs` is Redis's time. */
  classify: (error: unknown, nowMs: number) => Classification
  /** The JSON text of an error that is kept with an effect, bounded. */
  keepError: (error: unknown) => string
  /** Whether and when to try again; records nothing. */
  advise: (failure: FailureFacts) => RetryAdvice
  audit: EffectsAudit
  log: Logger
  /** Takes one line for each retry decision; must not throw. */
  decided: (line: DecisionLine) => void
  waiting: Waiting
  /** Breakers and retry metrics. */
  jobs: Jobs
  observe: { claim: (type: string, outcome: string) => void }
}

/** Which effect a caller means. */
export type EffectName = {
  type?: string | undefined
  entity?: string | JsonObject | undefined
  effect_id?: string | undefined
  /** Where it has been looked up already. */
  located?: Located | undefined
}

export type Located = {
  effectId: string
  type: string
  bucket: number
  keys: readonly [effect: string, inflight: string]
  entity: string | JsonObject | undefined
}

/** As the record and the answers name it: `primary`, `fsynced`, `replicated:2`. */
export const durabilityName = (durability: Durability): string =>
  typeof durability === 'string' ? durability : `replicated:${durability.replicated}`

export const milliseconds = (seconds: number): number => Math.round(seconds * 1000)

/** 22 characters (132 bits) that stand for one call or claim. */
export const digest = (...parts: unknown[]): string => hash('sha256', JSON.stringify(parts), 'base64url').slice(0, 22)

function parse(effectId: string): { effectId: string; type: string; bucket: number } {
  const parts = parseEffectId(effectId)
  if (!parts) throw invalidRequest([{ pointer: '/effect_id', message: 'must be <type>.<64 hex digits>' }])
  return { effectId, type: parts.type, bucket: parts.bucket }
}

/** The effect at Redis's time now. */
const subjectOf = (namespace: string, { effectId }: Located, clock: RedisClock): Subject => ({
  namespace,
  effectId,
  nowMs: clock.nowUs() / 1000,
})

export function createContext(dependencies: EffectsDependencies) {
  const { store, events } = dependencies

  function locate(namespace: string, { type = '', entity, effect_id, located }: EffectName): Located {
    if (located) return located
    const named = effect_id === undefined ? { type, ...identify(type, entity ?? '') } : parse(effect_id)
    const { effectId, bucket } = named
    const { effect, inflight } = dependencies.keys.effect(namespace, bucket, effectId)
    return { effectId, type: named.type, bucket, keys: [effect, inflight], entity }
  }

  /** Tells the world that an effect became uncertain, and why. */
  function tellUncertain({ namespace, effectId }: Subject, { owner, attempt }: EffectRecord, cause: string): void {
    events.emit({ event: 'effect.uncertain', namespace, effect_id: effectId, owner, attempt, cause })
  }

  return {
    ...dependencies,
    locate,

    /** Runs a script that changes an effect, or tells what another call has changed, as durably as its type asks. */
    runDurably: <Argument extends string, Reply>(
      { type, keys }: Located,
      definition: ScriptDefinition<string, Argument, Reply>,
      args: ScriptArguments<Argument>,
    ): Promise<Reply> => store.run(definition, keys, args, dependencies.durability(type)),

    /** The effect at Redis's time now; at once where this process has seen the clock. */
    subject(namespace: string, located: Located): Subject | Promise<Subject> {
      const clock = store.knownClock(located.keys[0])
      if (clock) return subjectOf(namespace, located, clock)
      return store.clock(located.keys[0]).then((asked) => subjectOf(namespace, located, asked))
    },

    tellUncertain,

    /** Tells it where a call was the first to notice a silent holder; under `reclaim` nobody is in doubt. */
    tellLapsed(subject: Subject, record: EffectRecord, lapsed: boolean): boolean {
      const doubtful = lapsed && record.policy === 'hold'
      if (doubtful) tellUncertain(subject, record, 'lease_expired')
      return doubtful
    },

    /** 413 if a result is larger than the configuration allows. */
    checkResult(result: RawJson | undefined): void {
      if (result === undefined || Buffer.byteLength(result.text) <= dependencies.maxResultBytes) return
      const detail = `The result exceeds ${dependencies.maxResultBytes} bytes.`
      throw new Problem('payload-too-large', detail, { max_result_bytes: dependencies.maxResultBytes })
    },
  }
}

export type Context = ReturnType<typeof createContext>

export const notFound = ({ effectId }: Subject): Problem =>
  new Problem('effect-not-found', 'There is no record of this effect.', { effect_id: effectId })

/** 409 `stale-token`; the record is null where only the token of a deleted one is remembered. */
export const staleToken = (subject: Subject, record: EffectRecord | null): Problem =>
  effectProblem('stale-token', 'Another claim, or a person, has taken over this effect.', subject, record)
