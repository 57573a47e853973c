/** The shapes of reported errors and classifications, for validation and for openapi.yaml. */
import { z } from 'zod'
import { limits } from '../limits.ts'
import { executions, failureTypeNames, markets, scopes } from './rule.ts'

const retryAfter = z
  .number()
  .nullable()
  .describe(
    `How long the exchange asks to wait, in seconds, at most ${limits.retryAfterSecondsMax}; null: it does not say.`,
  )
const failureType = z
  .string()
  .meta({ description: 'What went wrong; the list may gain words.', examples: failureTypeNames })
const execution = z
  .enum(executions)
  .describe('Did the effect reach the outside world? `partial`: one half of a cancel-replace did.')
const scope = z.enum(scopes).describe('Whom the trouble concerns.')
const countsForBreaker = z.boolean().describe('Whether a breaker counts it as a failure.')
const retryable = z.boolean().describe('Whether trying again can help.')
const code = z.union([z.int(), z.string()]).nullable()

/**
 * Any JSON value: what reports an outcome is hard to refuse. Members of another type than described are ignored.
 */
export const errorSchema = z
  .union([
    z.string(),
    z.looseObject({
      message: z
        .unknown()
        .meta({ description: `Text; cut at ${limits.errorMessageCharsMax} characters.` })
        .optional(),
      name: z.unknown().meta({ description: 'The class of the exception, as text.' }).optional(),
      code: z.unknown().meta({ description: 'Integer or text; "-1003" is the same as -1003.' }).optional(),
      exchange: z.unknown().meta({ description: 'Id of the exchange in lower case, as in ccxt.' }).optional(),
      market: z
        .unknown()
        .meta({ description: `One of ${markets.join(', ')}.` })
        .optional(),
      http_status: z.unknown().meta({ description: 'Integer from 100 to 599.' }).optional(),
      retry_after_seconds: z.unknown().meta({ description: 'Number of seconds, 0 or more.' }).optional(),
    }),
    z.unknown(),
  ])
  .meta({
    id: 'ReportedError',
    description:
      'What went wrong, as the caller saw it: text, or an object with these members and any of its own. ' +
      'The forms of ccxt, python-binance and the exchange are found in the text.',
    examples: [
      'binance {"code":-2010,"msg":"Account has insufficient balance for requested action."}',
      { message: 'Too many requests.', code: -1003, exchange: 'binance', market: 'spot', http_status: 429 },
    ],
  })

export const classificationSchema = z
  .object({
    failure_type: failureType,
    retryable,
    execution,
    counts_for_breaker: countsForBreaker,
    scope,
    code: code.describe('The code that was sent or found in the text, an integer where it is one.'),
    exchange: z.string(),
    market: z.enum(markets),
    rule: z.string().describe('The id of the rule that matched.'),
    retry_after_seconds: retryAfter,
  })
  .meta({
    id: 'Classification',
    description: 'What a reported error means for retry, breaker and the state of the effect.',
    examples: [
      {
        failure_type: 'RATE_LIMIT',
        retryable: true,
        execution: 'no',
        counts_for_breaker: true,
        scope: 'ip',
        code: -1003,
        exchange: 'binance',
        market: 'spot',
        rule: 'binance.spot.-1003',
        retry_after_seconds: null,
      },
    ],
  })

export const classifyBodySchema = z
  .strictObject({
    error: errorSchema.refine((error) => error !== undefined, 'is required'),
    exchange: z.string().min(1).max(limits.errorWordCharsMax).optional().describe('Wins over what the error says.'),
    market: z.enum(markets).optional().describe('Wins over what the error says; `spot` where nothing says it.'),
  })
  .meta({
    id: 'ClassifyFailure',
    description: 'An error to be classified.',
    examples: [{ error: 'BinanceAPIException: -1003 TOO_MANY_REQUESTS' }],
  })

const typeSchema = z
  .object({
    failure_type: failureType,
    retryable,
    execution,
    counts_for_breaker: countsForBreaker,
    scope,
    description: z.string(),
  })
  .meta({
    id: 'FailureType',
    description: 'A failure type and what it means where no rule says otherwise.',
    examples: [
      {
        failure_type: 'RATE_LIMIT',
        retryable: true,
        execution: 'no',
        counts_for_breaker: true,
        scope: 'ip',
        description: 'Too many requests or orders; the request was refused before it was looked at.',
      },
    ],
  })

export const typesSchema = z.object({ types: z.array(typeSchema) }).meta({
  id: 'FailureTypeList',
  description: 'All failure types.',
  examples: [{ types: typeSchema.meta()?.examples }],
})

const ruleExample = {
  rule: 'binance.spot.-1003',
  source: 'Binance Spot API, errors.md, 10xx - General Server or Network issues',
  meaning: 'TOO_MANY_REQUESTS',
  exchange: 'binance',
  market: 'spot',
  code: -1003,
  http_status: null,
  pattern: null,
  example: null,
  failure_type: 'RATE_LIMIT',
  retryable: true,
  execution: 'no',
  counts_for_breaker: true,
  scope: 'ip',
}

const ruleSchema = z
  .object({
    rule: z.string().describe('Its id.'),
    source: z.string().describe('Document and section that it comes from.'),
    meaning: z.string(),
    exchange: z.string().nullable(),
    market: z.enum(markets).nullable(),
    code: code.describe('`any`: every integer but 0.'),
    http_status: z
      .union([z.int(), z.string()])
      .nullable()
      .describe('A status, `4xx`, `5xx`, or `none`: only where no answer came.'),
    pattern: z.string().nullable().describe('A regular expression, searched in the message, then in name and code.'),
    example: z.string().nullable().describe('A message that the pattern is for.'),
    failure_type: failureType,
    retryable,
    execution,
    counts_for_breaker: countsForBreaker,
    scope,
  })
  .meta({
    id: 'FailureRule',
    description: 'A rule of the classifier. Members that are null are not looked at.',
    examples: [ruleExample],
  })

export const rulesSchema = z.object({ rules: z.array(ruleSchema) }).meta({
  id: 'FailureRuleList',
  description: 'All rules in the order in which they are tried; the first that matches wins.',
  examples: [{ rules: [ruleExample] }],
})
