/**
 * The configuration file: its defaults as one tree, and a strict schema without defaults of its own. Sections are
 * merged over `defaults` before the schema sees them; only entries of lists have defaults here.
 */
import { z } from 'zod'
import { roles } from '../auth.ts'
import { executions, failureTypeNames, markets } from '../failures/rule.ts'
import { limits } from '../limits.ts'
import { effectTypePattern, jobTypePattern, namespacePattern, reservedJobType } from '../names.ts'

/** Effect types that exist without configuration; others are taken unless `effects.allow_unknown_types` is false. */
export const builtInEffectTypes = [
  'order_placement',
  'position_update',
  'ledger_write',
  'pnl_write',
  'signal_consumption',
] as const

const whole = (least: number, most: number) => z.int().min(least).max(most)
const between = (least: number, most: number) => z.number().min(least).max(most)
const text = z.string().min(1)
const named = (pattern: RegExp, what: string) => z.string().regex(pattern, { error: `expected ${what}` })

export const namespaceName = named(
  namespacePattern,
  `a namespace: a lower case letter or digit, then up to ${limits.namespaceCharsMax - 1} of a-z, 0-9, _ and -`,
)
export const keyName = named(
  new RegExp(`^[\\x21-\\x7e]{1,${limits.configNameCharsMax}}$`),
  `a name of 1-${limits.configNameCharsMax} printable ASCII characters without spaces`,
)
const effectTypeName = named(
  effectTypePattern,
  `an effect type: a lower case letter, then up to ${limits.effectTypeCharsMax - 1} of a-z, 0-9 and _`,
)
const jobTypeName = z.string().refine((name) => jobTypePattern.test(name) && name !== reservedJobType, {
  error:
    `expected a job type: a letter, then up to ${limits.jobTypeCharsMax - 1} letters, digits, _, ., : and -; ` +
    `not "${reservedJobType}"`,
})
const exchangeName = named(
  new RegExp(`^[a-z][a-z0-9_]{0,${limits.exchangeCharsMax - 1}}$`),
  `an exchange: a lower case letter, then up to ${limits.exchangeCharsMax - 1} of a-z, 0-9 and _`,
)
const keyPrefix = named(
  new RegExp(`^[A-Za-z0-9_.:-]{1,${limits.keyPrefixCharsMax}}$`),
  `a prefix of 1-${limits.keyPrefixCharsMax} letters, digits, _, ., : and -, without braces (they mark cluster slots)`,
)

type ExactPartial<S extends z.ZodRawShape> = { [K in keyof S]: z.ZodExactOptional<S[K]> }
/** The same members, each of which may be left out. */
const partial = <S extends z.ZodRawShape>({ shape }: z.ZodObject<S>) =>
  z.strictObject(
    Object.fromEntries(Object.entries(shape).map(([key, type]) => [key, z.exactOptional(type)])) as ExactPartial<S>,
  )

/** Upper case is taken too; the digest is compared in lower case. */
const sha256 = named(/^[0-9a-fA-F]{64}$/, 'a SHA-256 of 64 hexadecimal digits').transform((hex) => hex.toLowerCase())

const server = (port: number) => z.strictObject({ host: text, port: whole(1, limits.portMax).default(port) })

const redis = z.strictObject({
  url: text.nullable(),
  sentinels: z.array(server(26_379)).min(1).nullable(),
  name: text.nullable(),
  cluster: z.array(server(6379)).min(1).nullable(),
  username: text.nullable(),
  password: text.nullable(),
  password_file: text.nullable(),
  sentinel_password: text.nullable(),
  sentinel_password_file: text.nullable(),
  tls: z
    .strictObject({
      ca_file: text.nullable().default(null),
      cert_file: text.nullable().default(null),
      key_file: text.nullable().default(null),
      servername: text.nullable().default(null),
    })
    .nullable(),
  require_safe: z.boolean(),
  failover_grace_seconds: between(0, limits.graceSecondsMax),
  readiness_grace_seconds: between(0, limits.graceSecondsMax),
})

const apiKey = z.strictObject({
  name: keyName,
  sha256: sha256.exactOptional(),
  sha256_file: text.exactOptional(),
  role: z.enum(roles),
  namespace: namespaceName.default('default'),
})

const effectType = z.strictObject({
  lease_seconds: between(limits.leaseSecondsMin, limits.leaseSecondsMax),
  retention_seconds: between(limits.retentionSecondsMin, limits.retentionSecondsMax).nullable(),
  on_lease_expiry: z.enum(['hold', 'reclaim']),
  allow_reclaim: z.boolean(),
  max_attempts: whole(1, limits.attemptsMax).nullable(),
  durability: z.union([z.enum(['primary', 'fsynced']), z.strictObject({ replicated: whole(1, limits.replicasMax) })], {
    error: `expected primary, fsynced or {replicated: n} with n from 1 to ${limits.replicasMax}`,
  }),
  mode: z.enum(['enforce', 'shadow']),
})

const effects = z.strictObject({
  max_result_bytes: whole(1, limits.resultBytesMax),
  allow_unknown_types: z.boolean(),
  defaults: effectType,
  types: z.record(effectTypeName, partial(effectType)),
})

const circuitBreaker = z.strictObject({
  enabled: z.boolean(),
  failure_threshold: whole(1, limits.breakerFailuresMax),
  time_window_minutes: z.number().positive().max(limits.windowMinutesMax),
  auto_recovery_seconds: z.number().positive().max(limits.cooldownSecondsMax).nullable(),
  half_open_max_probes: whole(1, limits.breakerProbesMax),
  half_open_successes: whole(1, limits.breakerProbesMax),
  probe_timeout_seconds: between(limits.leaseSecondsMin, limits.leaseSecondsMax),
  min_distinct_owners: whole(1, limits.breakerFailuresMax),
  mode: z.enum(['enforce', 'shadow', 'disabled']),
})

const budget = z
  .strictObject({
    ratio: between(0, 1).default(0.2),
    min_per_second: between(0, limits.retryBudgetPerSecondMax).default(1),
    window_seconds: whole(1, limits.retryBudgetWindowSecondsMax).default(10),
  })
  .nullable()

const retryPolicy = z.strictObject({
  max_attempts: whole(1, limits.attemptsMax),
  cooldown_seconds: between(0, limits.cooldownSecondsMax),
  exponential_backoff: z.boolean(),
  max_cooldown_seconds: between(0, limits.cooldownSecondsMax),
  jitter: z.enum(['none', 'full', 'equal']),
  budget,
})

const jobType = partial(retryPolicy).extend({ circuit_breaker: partial(circuitBreaker).exactOptional() })

const retry = retryPolicy.extend({
  audit_log_path: text.nullable(),
  circuit_breaker: circuitBreaker,
  metrics: z.strictObject({ enabled: z.boolean(), time_window_minutes: whole(1, limits.windowMinutesMax) }),
  redis: z.strictObject({
    namespace: keyPrefix,
    ttl_seconds: between(limits.retentionSecondsMin, limits.retentionSecondsMax),
    memory_budget_mb: z.number().positive().max(limits.memoryBudgetMbMax).nullable(),
    check_eviction_policy: z.boolean(),
  }),
  job_types: z.record(jobTypeName, jobType),
})

const isPattern = (source: string): boolean => {
  try {
    return new RegExp(source, 'i').source !== ''
  } catch {
    return false
  }
}

const failureRule = z.strictObject({
  exchange: exchangeName,
  market: z.enum(markets).exactOptional(),
  code: z.union([z.int(), text], { error: 'expected a whole number or text' }).exactOptional(),
  http_status: whole(100, 599).exactOptional(),
  pattern: text
    .max(limits.failurePatternCharsMax)
    .refine(isPattern, { error: 'expected a regular expression (ECMAScript)' })
    .exactOptional(),
  failure_type: z.enum(failureTypeNames),
  execution: z.enum(executions).exactOptional(),
  counts_for_breaker: z.boolean().exactOptional(),
})

/** The whole file after its sections were merged over `defaults`. */
export const fileSchema = z.strictObject({
  redis,
  auth: z.strictObject({ keys: z.array(apiKey), metrics_anonymous: z.boolean() }),
  effects,
  retry,
  audit: z.strictObject({ entries_max: whole(1, limits.auditEntriesMax) }),
  failures: z.strictObject({
    default_exchange: exchangeName,
    rules: z.array(failureRule).max(limits.failureRulesMax),
  }),
})

export type FileConfig = z.output<typeof fileSchema>

/** What an empty file means. docs/effectonce.yaml shows the same, with comments. */
export const defaults: FileConfig = {
  redis: {
    url: null,
    sentinels: null,
    name: null,
    cluster: null,
    username: null,
    password: null,
    password_file: null,
    sentinel_password: null,
    sentinel_password_file: null,
    tls: null,
    require_safe: false,
    failover_grace_seconds: 60,
    readiness_grace_seconds: 15,
  },
  auth: { keys: [], metrics_anonymous: false },
  effects: {
    max_result_bytes: 65_536,
    allow_unknown_types: true,
    defaults: {
      lease_seconds: 30,
      retention_seconds: null,
      on_lease_expiry: 'hold',
      allow_reclaim: false,
      max_attempts: null,
      durability: 'primary',
      mode: 'enforce',
    },
    types: { signal_consumption: { on_lease_expiry: 'reclaim' } },
  },
  retry: {
    max_attempts: 3,
    cooldown_seconds: 60,
    exponential_backoff: true,
    max_cooldown_seconds: 3600,
    jitter: 'none',
    budget: null,
    audit_log_path: 'logs/job_retry_audit',
    circuit_breaker: {
      enabled: true,
      failure_threshold: 10,
      time_window_minutes: 5,
      auto_recovery_seconds: null,
      half_open_max_probes: 1,
      half_open_successes: 1,
      probe_timeout_seconds: 30,
      min_distinct_owners: 1,
      mode: 'enforce',
    },
    metrics: { enabled: true, time_window_minutes: 60 },
    redis: { namespace: 'idempotency', ttl_seconds: 259_200, memory_budget_mb: 100, check_eviction_policy: true },
    job_types: {},
  },
  audit: { entries_max: 100_000 },
  failures: { default_exchange: 'binance', rules: [] },
}
