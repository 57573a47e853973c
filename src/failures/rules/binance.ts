/** What Binance says by HTTP status and in words, in every market: some rows go before its codes, some after them. */
import { rule, type CodeRowMore, type FailureType, type Market, type Rule } from '../rule.ts'

const limitsPlace = {
  source: 'Binance Spot API, rest-api.md, General Info on Limits and IP Limits',
  exchange: 'binance',
}
const codesPlace = { source: 'Binance Spot API, rest-api.md, HTTP Return Codes', exchange: 'binance' }

/** A ban comes with code -1003 like a mere limit, and an unknown outcome comes with several codes: words first. */
export const binanceBeforeCodes: readonly Rule[] = [
  rule(limitsPlace, {
    id: 'binance.banned-until',
    meaning: 'Way too much request weight used; IP banned until a time',
    failure_type: 'EXCHANGE_BAN',
    pattern: /\bbanned until\b/i,
    example: 'Way too much request weight used; IP banned until 1700000000000.',
  }),
  rule(limitsPlace, {
    id: 'binance.http.418',
    meaning: 'The IP address is banned for continuing after 429',
    failure_type: 'EXCHANGE_BAN',
    http_status: 418,
  }),
  rule(
    { source: 'Binance Derivatives, General Info, HTTP Return Codes', exchange: 'binance' },
    {
      id: 'binance.outcome-unknown',
      meaning: 'The request was sent on, and no answer came within the time-out',
      failure_type: 'TIMEOUT',
      pattern: /Unknown error, please check your request or try again later/i,
      example: 'Unknown error, please check your request or try again later.',
    },
  ),
]

const refused = (market: Market, product: string): Rule[] => {
  const place = { source: `Binance ${product}, General Info, HTTP Return Codes`, exchange: 'binance', market }
  return [
    rule(place, {
      id: `binance.${market}.internal-error`,
      meaning: 'The request failed and may be sent again',
      failure_type: 'TEMPORARY_ERROR',
      execution: 'no',
      pattern: /Internal error; unable to process your request/i,
      example: 'Internal error; unable to process your request. Please try again.',
    }),
    rule(place, {
      id: `binance.${market}.service-unavailable`,
      meaning: 'The request failed; the service is not available at the moment',
      failure_type: 'SERVICE_UNAVAILABLE',
      execution: 'no',
      http_status: 503,
      pattern: /\bService Unavailable\.(?!\w)/i,
      example: 'Service Unavailable.',
    }),
    rule(place, {
      id: `binance.${market}.throttled`,
      meaning: 'The request failed; the system is overloaded',
      failure_type: 'SERVICE_UNAVAILABLE',
      execution: 'no',
      http_status: 503,
      pattern: /Request throttled by system-level protection/i,
      example:
        'Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try again.',
    }),
  ]
}

/**
 * Three 503 texts that futures document as failures. Spot and options document no such exception: there the outcome
 * of every 5xx is unknown.
 */
export const binanceRefused: readonly Rule[] = [
  ...refused('linear', 'USDⓈ-M Futures'),
  ...refused('inverse', 'COIN-M Futures'),
  ...refused('portfolio_margin', 'Portfolio Margin'),
]

const errorsPlace = { source: 'Binance Spot API, errors.md, messages of the codes', exchange: 'binance' }

const text = (id: string, failure_type: FailureType, pattern: RegExp, example: string, more?: CodeRowMore): Rule =>
  rule(errorsPlace, {
    ...more,
    id: `binance.text.${id}`,
    meaning: 'The message of a code',
    failure_type,
    pattern,
    example,
  })

/** Some clients pass on the message without its code. */
const texts: readonly Rule[] = [
  text('outcome-unknown', 'TIMEOUT', /execution status unknown/i, 'Send status unknown; execution status unknown.'),
  text('duplicate', 'DUPLICATE', /duplicate order sent|clientOrderId is duplicated/i, 'Duplicate order sent.'),
  text(
    'insufficient',
    'INSUFFICIENT_BALANCE',
    /account has insufficient balance|margin is insufficient/i,
    'Account has insufficient balance for requested action.',
  ),
  text('unknown-order', 'NOT_FOUND', /unknown order sent/i, 'Unknown order sent.'),
  text('no-such-order', 'NOT_FOUND', /order does not exist/i, 'Order does not exist.', { execution: 'unknown' }),
  text('filter', 'VALIDATION_ERROR', /filter failure: /i, 'Filter failure: LOT_SIZE'),
  text(
    'timestamp',
    'TIMEOUT',
    /outside of the (?:ME )?recvWindow|ahead of the server's time/i,
    'Timestamp for this request is outside of the recvWindow.',
    { execution: 'no' },
  ),
  text(
    'limit',
    'RATE_LIMIT',
    /too (?:many|much) (?:requests|request weight)/i,
    'Too much request weight used; current limit is 6000 request weight per 1 MINUTE.',
  ),
  text(
    'order-limit',
    'RATE_LIMIT',
    /too many new orders/i,
    'Too many new orders; current limit is 50 orders per 10 SECOND.',
    {
      scope: 'account',
    },
  ),
  text(
    'key',
    'AUTHENTICATION_ERROR',
    /invalid api-key|api-key format invalid|signature for this request is not valid/i,
    'Invalid API-key, IP, or permissions for action.',
  ),
]

export const binanceAfterCodes: readonly Rule[] = [
  ...texts,
  rule(codesPlace, {
    id: 'binance.http.403',
    meaning: 'A rule of the web application firewall was violated: a rate limit or a security block',
    failure_type: 'EXCHANGE_BAN',
    http_status: 403,
  }),
  rule(
    { ...codesPlace, market: 'spot' },
    {
      id: 'binance.spot.http.409',
      meaning: 'A cancel-replace succeeded in one half only',
      failure_type: 'VALIDATION_ERROR',
      execution: 'partial',
      http_status: 409,
    },
  ),
]
