/** Shapes of requests and answers about retries; snake_case, as callers see them. */
import { z } from 'zod'
import { instantField, jobTypeField, reasonField, userField } from '../http/fields.ts'
import { inDigits } from '../http/query.ts'
import { limits } from '../limits.ts'
import { effectIdPattern } from '../names.ts'

const eventId = z.string().min(1).max(limits.eventIdCharsMax).meta({
  description: 'Names this event: the same one again counts once (remembered for an hour, the newest 10,000).',
})

/** `error` and `classification` are shapes of the classifier; routes/retries.ts passes them. */
export const decideShapes = <E extends z.ZodType, C extends z.ZodType>(error: E, classification: C) => ({
  body: z
    .strictObject({
      job_type: jobTypeField,
      attempt: z.int().min(1).max(limits.attemptsMax).meta({ description: 'The attempt that failed, from 1.' }),
      error,
      effect_id: z
        .string()
        .regex(effectIdPattern, 'must be <type>.<64 hex digits>')
        .optional()
        .meta({ description: 'The effect that was tried: its policy says whether doubt must be settled first.' }),
      record_failure: z
        .boolean()
        .optional()
        .meta({ description: 'Also reports the failure to the breaker. Default: false.' }),
      owner: z
        .string()
        .min(1)
        .max(limits.ownerCharsMax)
        .optional()
        .meta({ description: 'Whose failure it was, for the breaker and the audit files.' }),
      event_id: eventId.optional(),
    })
    .meta({ id: 'DecideRequest', description: 'An attempt failed: should there be another?' }),
  answer: z
    .object({
      retry: z.boolean(),
      reason: z.string().meta({
        description:
          'In this order: `reconcile_first`, `not_retryable`, `attempts_exhausted`, `circuit_open`, `budget_exhausted`, else `retry`. ' +
          'A hold of the breaker ends by itself: it is no `circuit_open`, the retry waits for its end.',
      }),
      wait_seconds: z
        .number()
        .nullable()
        .meta({ description: 'How long to wait, a hold of the breaker included; null without a retry.' }),
      not_before: instantField('When the wait is over.').nullable(),
      attempts_left: z.int(),
      classification,
      breaker: z.object({ state: z.string() }),
    })
    .meta({ id: 'RetryDecision', description: 'Whether and when to try again.' }),
})

export const jobTypeParams = z.strictObject({ job_type: jobTypeField })

export const attemptBody = z
  .strictObject({
    attempt_number: z.int().min(1).max(limits.attemptsMax).meta({ description: 'The attempt that begins, from 1.' }),
    event_id: eventId.optional(),
  })
  .meta({ id: 'RetryAttempt', description: 'An attempt begins.' })

export const outcomeBody = z
  .strictObject({ event_id: eventId.optional() })
  .meta({ id: 'RetryOutcome', description: 'A retry came to its end.' })

export const blockedBody = z
  .strictObject({
    reason: z
      .string()
      .min(1)
      .max(limits.retryReasonCharsMax)
      .meta({ description: 'Why; after sixteen reasons of callers for a job type, further ones count as `other`.' }),
    event_id: eventId.optional(),
  })
  .meta({ id: 'RetryBlocked', description: 'There is no retry.' })

export const windowQuery = z.strictObject({
  window_minutes: inDigits(z.int().min(1).max(limits.windowMinutesMax)).optional().meta({
    description:
      'The minutes up to now that count, the running one included. Default: `retry.metrics.time_window_minutes`.',
  }),
})

export const resetQuery = z.strictObject({ reason: reasonField, user: userField.optional() })

const metricsFields = {
  time_window_minutes: z.int(),
  retry_rate_per_minute: z.number().meta({ description: 'Attempts a minute.' }),
  retry_success_rate: z.number().meta({ description: 'Successes in percent of successes and failures.' }),
  retry_failure_rate: z.number().meta({ description: 'Failures in percent of successes and failures.' }),
  retry_block_rate: z.number().meta({ description: 'Blocked ones in percent of attempts and blocked ones.' }),
  avg_attempts: z.number().meta({ description: 'Mean attempt number.' }),
  totals: z.object({ attempts: z.int(), successes: z.int(), failures: z.int(), blocked: z.int() }),
  blocked_by_reason: z.record(z.string(), z.int()),
}

export const jobMetrics = z
  .object(metricsFields)
  .meta({ id: 'RetryMetrics', description: 'Retry metrics of one job type over a window. Rates are 0 where empty.' })

export const allMetrics = z
  .object({
    ...metricsFields,
    job_types: z.record(z.string(), jobMetrics).meta({
      description: `Each job type; those beyond the first ${limits.retryJobTypesMax} are counted together as \`_other\`.`,
    }),
  })
  .meta({
    id: 'AllRetryMetrics',
    description: 'Retry metrics of all job types over a window, summed over all replicas.',
  })

export const metricsText = z.string().meta({ description: 'The Prometheus text format.' })
