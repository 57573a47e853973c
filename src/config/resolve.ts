/** The settings of one effect type or job type: its own, over the general ones. */
import type { Config } from './types.ts'

/** All members set; `max_attempts: null` leaves it to the job type. */
export type EffectTypeConfig = Readonly<
  Omit<Config['effects']['defaults'], 'retention_seconds'> & { retention_seconds: number }
>
export type JobTypeConfig = Readonly<
  Pick<
    Config['retry'],
    | 'max_attempts'
    | 'cooldown_seconds'
    | 'exponential_backoff'
    | 'max_cooldown_seconds'
    | 'jitter'
    | 'budget'
    | 'circuit_breaker'
  >
>

/** Resolved once per configuration and kept for its configured names only: callers may send any others. */
type Resolved = {
  effectTypes: Map<string, EffectTypeConfig>
  otherEffectTypes: EffectTypeConfig
  jobTypes: Map<string, JobTypeConfig>
  otherJobTypes: JobTypeConfig
}
const resolved = new WeakMap<Config, Resolved>()

/** Whether no other Redis is named: then the service starts its own. */
export const usesPrivateRedis = ({ url, sentinels, cluster }: Config['redis']): boolean =>
  url === null && sentinels === null && cluster === null

/** `effects.types[type]` over `effects.defaults`; a retention of null is `retry.redis.ttl_seconds`. */
export function effectTypeConfig(config: Config, type: string): EffectTypeConfig {
  const { effectTypes, otherEffectTypes } = resolve(config)
  return effectTypes.get(type) ?? otherEffectTypes
}

/** `retry.job_types[jobType]` over `retry`, the breaker member by member; null: a caller without a job type. */
export function jobTypeConfig(config: Config, jobType: string | null): JobTypeConfig {
  const { jobTypes, otherJobTypes } = resolve(config)
  return jobType === null ? otherJobTypes : (jobTypes.get(jobType) ?? otherJobTypes)
}

/** The effect type's, else the job type's, else `retry.max_attempts`. */
export const maxAttempts = (config: Config, type: string, jobType: string | null): number =>
  effectTypeConfig(config, type).max_attempts ?? jobTypeConfig(config, jobType).max_attempts

function resolve(config: Config): Resolved {
  const known = resolved.get(config)
  if (known) return known
  const { types } = config.effects
  const { job_types } = config.retry
  const fresh: Resolved = {
    effectTypes: new Map(Object.entries(types).map(([name, own]) => [name, effectType(config, own)])),
    otherEffectTypes: effectType(config, {}),
    jobTypes: new Map(Object.entries(job_types).map(([name, own]) => [name, jobType(config, own)])),
    otherJobTypes: jobType(config, {}),
  }
  resolved.set(config, fresh)
  return fresh
}

function effectType(config: Config, own: Config['effects']['types'][string]): EffectTypeConfig {
  const merged = { ...config.effects.defaults, ...own }
  return Object.freeze({
    ...merged,
    retention_seconds: merged.retention_seconds ?? config.retry.redis.ttl_seconds,
  })
}

function jobType(config: Config, own: Config['retry']['job_types'][string]): JobTypeConfig {
  const { audit_log_path: _path, metrics: _metrics, redis: _redis, job_types: _types, ...policy } = config.retry
  const circuit_breaker = Object.freeze(breaker(policy.circuit_breaker, own.circuit_breaker ?? {}))
  return Object.freeze({ ...policy, ...own, circuit_breaker })
}

type Breaker = Config['retry']['circuit_breaker']

/**
 * `enabled: false` is `mode: disabled`. A job type's own word about either wins over both general ones, so that
 * `mode: shadow` switches one breaker on under a general `enabled: false`, as does `enabled: true`.
 */
function breaker(base: Breaker, own: Partial<Breaker>): Breaker {
  const enabled = own.enabled ?? (own.mode === undefined ? base.enabled : own.mode !== 'disabled')
  const switchedOn = own.enabled === true && base.mode === 'disabled'
  const mode = own.mode ?? (switchedOn ? 'enforce' : base.mode)
  const effective = enabled ? mode : 'disabled'
  return { ...base, ...own, enabled: effective !== 'disabled', mode: effective }
}
