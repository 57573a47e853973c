/** Shapes of the answers about the service itself; snake_case, as callers see them. */
import { z } from 'zod'
import { instantField, reasonField, userField } from '../http/fields.ts'

const component = z
  .object({
    name: z.string().meta({ description: '`process`, `redis`, or one of the start-up checks.' }),
    status: z.enum(['ok', 'warn', 'fail']),
    detail: z.string(),
    remedy: z.string().nullable().meta({ description: 'What to do about it; null where nothing is wrong.' }),
  })
  .meta({ id: 'Component', description: 'How one part is: `warn` works with a risk, `fail` does not.' })

export const live = z.object({ status: z.literal('live') }).meta({ id: 'Live', description: 'The process runs.' })

export const ready = z
  .object({ status: z.literal('ready'), checks: z.array(component) })
  .meta({ id: 'Ready', description: 'Calls may be sent here.' })

export const notReady = z
  .object({
    status: z.literal('not_ready'),
    reasons: z.array(z.string()).meta({
      description: '`draining`, `redis_unchecked`, `redis_silent`, `redis_too_old`, `redis_unsafe`.',
    }),
    checks: z.array(component),
  })
  .meta({ id: 'NotReady', description: 'Calls should not be sent here, and why.' })

export const metricsText = z.string().meta({ description: 'Prometheus text format 0.0.4.' })

const redis = z
  .object({
    mode: z.string().meta({ description: '`private`, or as the server says: `standalone`, `cluster`.' }),
    server: z.enum(['redis', 'valkey']).nullable(),
    version: z.string().nullable(),
    durability: z
      .enum(['aof_always', 'aof_everysec', 'aof_no', 'aof', 'snapshots', 'none'])
      .nullable()
      .meta({ description: 'How acknowledged writes reach the disk; `aof`: by a rule that could not be read.' }),
  })
  .meta({ id: 'RedisState', description: 'The Redis behind the service; null where it has not answered yet.' })

export const storeState = z
  .object({
    changed_at: instantField("The last change of primary or restart that was seen, by Redis's clock.").nullable(),
    change: z.string().nullable().meta({
      description: '`kept` (nothing was lost), `restarted`, `promoted`, `unknown`, `reset` (it came back empty).',
    }),
    grace_until: instantField('Until then an effect that is absent may be refused, since it could be held.').nullable(),
    reset_at: instantField('When the store was found empty; null once that is acknowledged.').nullable(),
    acknowledge_needed: z
      .boolean()
      .meta({ description: 'Claims of absent effects are refused until an operator looks.' }),
    remedy: z.string().nullable().meta({ description: 'What to do about it; null where nothing is refused.' }),
  })
  .meta({ id: 'StoreState', description: 'Whether the store may have lost something.' })

export const acknowledgeBody = z
  .strictObject({ reason: reasonField, user: userField.optional() })
  .meta({ id: 'AcknowledgeRequest', description: 'A person has looked at a store that came back empty.' })

const inFlight = z.object({ in_progress: z.int(), uncertain: z.int() }).meta({ id: 'InFlight' })

export const system = z
  .object({
    version: z.string(),
    uptime_seconds: z.number(),
    processes: z.int().meta({ description: 'Processes behind this port that take calls.' }),
    redis,
    store: storeState,
    checks: z.array(component),
    effects: z
      .record(z.string(), inFlight)
      .nullable()
      .meta({ description: 'Effects of your namespace that are not settled, by type; null where Redis cannot say.' }),
    breakers_not_closed: z
      .array(z.string())
      .nullable()
      .meta({ description: 'Job types of your namespace; null while Redis cannot say.' }),
    memory: z
      .object({ used_bytes: z.number(), budget_bytes: z.number().nullable() })
      .meta({ id: 'MemoryUse', description: 'Of all namespaces together, estimated.' }),
  })
  .meta({ id: 'System', description: 'How the service is.' })

export const problemPage = z
  .object({
    slug: z.string(),
    status: z.int(),
    title: z.string(),
    explanation: z.string(),
    remedy: z.string().meta({ description: 'For the caller who received the problem.' }),
  })
  .meta({ id: 'ProblemType', description: 'What a problem means and what to do.' })

export const problemList = z
  .object({ problems: z.array(problemPage) })
  .meta({ id: 'ProblemTypeList', description: 'Every problem type of this service.' })
