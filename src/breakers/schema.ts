/** Shapes of requests and answers about breakers; snake_case, as callers see them. */
import { z } from 'zod'
import { instantField, jobTypeField, nextCursor, pageQuery, reasonField, userField } from '../http/fields.ts'
import { limits } from '../limits.ts'
import { breakerStates, overrideActions } from './scripts.ts'

const state = z.enum(breakerStates).meta({ description: '`half_open`: probes find out whether it is over.' })
const probeId = z
  .string()
  .min(1)
  .max(limits.probeIdCharsMax)
  .meta({ description: 'Names one probe.', examples: ['probe-7'] })
const version = z.int().min(0).meta({ description: '+1 per transition; an override and a reset are one each.' })

export const breakerParams = z.strictObject({ job_type: jobTypeField })
export const listQuery = z.strictObject({ state: state.optional(), ...pageQuery })
export const historyQuery = z.strictObject(pageQuery)

export const checkBody = z
  .strictObject({ probe_id: probeId.optional().meta({ description: 'Made if absent; a claim after it carries it.' }) })
  .meta({ id: 'CheckBreakerRequest', description: 'Asks whether a job may go.' })

const report = {
  probe_id: probeId.optional().meta({ description: 'Of the check before: while half-open only a probe counts.' }),
  owner: z.string().min(1).max(limits.ownerCharsMax).optional().meta({ description: 'Who ran the job.' }),
  event_id: z
    .string()
    .min(1)
    .max(limits.eventIdCharsMax)
    .optional()
    .meta({
      description:
        'Names this outcome, which counts once however often it is sent. Remembered of failures that counted while closed: ' +
        `${limits.breakerEventsMs / 60_000} minutes or the window, if that is longer, the newest ${limits.breakerFailuresKept}; ` +
        `of probes and of failures that asked for a hold: the newest ${limits.breakerEventsRemembered}.`,
    }),
}
const error = z.unknown().optional()
export const successBody = z
  .strictObject({
    ...report,
    error: error.meta({ description: 'Taken so that both reports have one body; means nothing for a success.' }),
  })
  .meta({ id: 'BreakerSuccessRequest', description: 'A job went well.' })
export const failureBody = z
  .strictObject({
    ...report,
    error: error.meta({
      description: 'A string, or an object with `message` and what else is known; a failure without an error counts.',
    }),
  })
  .meta({ id: 'BreakerFailureRequest', description: 'A job failed.' })

export const overrideBody = z
  .strictObject({
    action: z.enum(overrideActions).default('half_open'),
    reason: reasonField,
    user: userField.optional(),
    version: version.optional().meta({ description: 'Of the breaker when it was looked at; 409 if it has moved on.' }),
    expires_in_seconds: z
      .number()
      .min(limits.overrideSecondsMin)
      .max(limits.overrideSecondsMax)
      .optional()
      .meta({ description: 'With `open`: then it becomes half-open.' }),
  })
  .superRefine(({ action, expires_in_seconds }, context) => {
    if (action === 'open' || expires_in_seconds === undefined) return
    context.addIssue({ code: 'custom', path: ['expires_in_seconds'], message: 'is for the action open only' })
  })
  .meta({ id: 'OverrideBreakerRequest', description: 'A person decides.' })

export const resetBody = z
  .strictObject({ reason: reasonField, user: userField.optional() })
  .meta({ id: 'ResetBreakerRequest', description: 'Closed and empty, because a person says so.' })

export const checked = z
  .object({
    allowed: z.boolean(),
    would_block: z.boolean().meta({ description: 'Whether `enforce` would refuse what `shadow` lets go.' }),
    state,
    reason: z.string().meta({
      description: 'A word; the list may gain some.',
      examples: ['closed', 'open', 'forced_open', 'probe', 'no_probe_left', 'hold', 'shadow', 'disabled'],
    }),
    probe_id: z.string(),
  })
  .meta({ id: 'BreakerCheck', description: 'Whether a job may go.' })

const lastOverride = z.object({
  user: z.string(),
  on_behalf_of: z.string().nullable(),
  reason: z.string(),
  action: z.enum(overrideActions),
  at: instantField('When.'),
  expires_at: instantField('Until when it was to stay open.').nullable(),
})

export const breaker = z
  .object({
    job_type: z.string(),
    state,
    mode: z.enum(['enforce', 'shadow', 'disabled']),
    version,
    failure_count: z.int().meta({
      description: `Failures in the window since it was closed last; of more than ${limits.breakerFailuresKept} so many.`,
    }),
    failure_threshold: z.int(),
    time_window_seconds: z.number(),
    opened_at: instantField('Since when it is not closed.').nullable(),
    reason: z
      .string()
      .nullable()
      .meta({
        description: 'A word: why it is not closed.',
        examples: ['failure_threshold', 'probe_failed', 'auto_recovery', 'override', 'forced_open', 'override_expired'],
      }),
    requires_override: z.boolean().meta({ description: 'It stays open until a person acts.' }),
    last_override: lastOverride.nullable(),
    auto_recovery_at: instantField('When it becomes half-open by itself.').nullable(),
    hold_until: instantField('The exchange asked for quiet until then.').nullable(),
  })
  .meta({ id: 'Breaker', description: 'The circuit breaker of one job type, as of now.' })

export const breakerPage = z
  .object({ breakers: z.array(breaker), next_cursor: nextCursor })
  .meta({ id: 'BreakerList', description: 'Breakers that something is remembered of, in no promised order.' })

const transition = z.object({
  at: instantField('When.'),
  version,
  from: state,
  to: state,
  cause: z.string().meta({
    description: 'A word: why.',
    examples: ['failure_threshold', 'probe_failed', 'probes_succeeded', 'auto_recovery', 'override', 'reset'],
  }),
  action: z.string().nullable().meta({ description: 'What a person asked for.' }),
  user: z.string().nullable(),
  on_behalf_of: z.string().nullable(),
  reason: z.string().nullable().meta({ description: "The person's." }),
})

export const breakerHistoryPage = z.object({ history: z.array(transition), next_cursor: nextCursor }).meta({
  id: 'BreakerHistory',
  description: `Transitions and overrides, newest first; ${limits.breakerHistoryMax} are kept.`,
})
