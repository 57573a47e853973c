/** Members that more than one call takes. */
import { z } from 'zod'
import { limits } from '../limits.ts'
import { jobTypePattern, reservedJobType } from '../names.ts'
import { RawJson } from '../json.ts'
import { inDigits } from './query.ts'

/** A JSON value that passes through byte for byte. */
export const rawJson = (description: string) =>
  z.custom<RawJson>((value) => value instanceof RawJson, 'must be JSON').meta({ description })

/** An instant of an answer: RFC 3339 in UTC with milliseconds. */
export const instantField = (description: string) =>
  z.string().meta({ description, format: 'date-time', examples: ['2026-11-23T21:08:41.123Z'] })

export const userField = z.string().min(1).max(limits.userCharsMax).meta({
  description: 'Who asks; with authentication the name of the key counts, and this is kept as `on_behalf_of`.',
})

export const reasonField = z
  .string()
  .min(limits.reasonCharsMin)
  .max(limits.reasonCharsMax)
  .meta({ description: 'Why; kept in the audit.' })

/** A kind of job, with a breaker and retry metrics of its own. */
export const jobTypeField = z
  .string()
  .regex(jobTypePattern, `must match ${jobTypePattern.source}`)
  .refine((name) => name !== reservedJobType, 'is reserved')
  .meta({ description: 'What kind of job it is.', examples: ['order_execution'] })

/** Query parameters of a list. */
export const pageQuery = {
  limit: inDigits(z.int().min(1).max(limits.pageMax).default(limits.pageDefault)).meta({
    description: 'The most entries of one page.',
  }),
  cursor: z.string().min(1).max(512).optional().meta({ description: '`next_cursor` of the page before.' }),
}

export const nextCursor = z.string().nullable().meta({ description: 'Where the next page begins; null at the end.' })

/** The body of every problem answer. */
export const problemSchema = z
  .looseObject({
    type: z.string().meta({ description: 'Path of the explanation on this server.' }),
    code: z.string().meta({ description: 'The slug of the problem type.' }),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    request_id: z.string(),
    errors: z
      .array(z.object({ pointer: z.string(), message: z.string() }))
      .optional()
      .meta({
        description:
          'Each place that is not valid: a JSON Pointer into the body, `?name` for a parameter, `{name}` for a part of the path.',
      }),
    retry_after_seconds: z.number().optional(),
  })
  .meta({ id: 'Problem', description: 'A problem (RFC 9457). Members beside these depend on `code`.' })
