/** What a rule of the classifier is, and what each failure type means where no rule says otherwise. */

export const executions = ['no', 'unknown', 'yes', 'partial'] as const
export const scopes = ['request', 'account', 'ip', 'venue'] as const
export const markets = ['spot', 'linear', 'inverse', 'option', 'portfolio_margin'] as const

/** Did the effect reach the outside world? `partial`: one half of a two-part request did (cancel-replace). */
export type Execution = (typeof executions)[number]
/** Whom the trouble concerns: this request, every request of the account, of the IP address, or everybody. */
export type Scope = (typeof scopes)[number]
/** The same code means different things in different markets of one exchange. */
export type Market = (typeof markets)[number]

type TypeFacts = {
  retryable: boolean
  execution: Execution
  counts_for_breaker: boolean
  scope: Scope
  description: string
}

const facts = {
  NETWORK_ERROR: {
    retryable: true,
    execution: 'unknown',
    counts_for_breaker: true,
    scope: 'request',
    description: 'The connection failed or broke.',
  },
  TIMEOUT: {
    retryable: true,
    execution: 'unknown',
    counts_for_breaker: true,
    scope: 'request',
    description: 'No answer came in time, or the request came too late.',
  },
  RATE_LIMIT: {
    retryable: true,
    execution: 'no',
    counts_for_breaker: true,
    scope: 'ip',
    description: 'Too many requests or orders; the request was refused before it was looked at.',
  },
  TEMPORARY_ERROR: {
    retryable: true,
    execution: 'unknown',
    counts_for_breaker: true,
    scope: 'request',
    description: 'The exchange had a passing fault while it worked on the request.',
  },
  SERVICE_UNAVAILABLE: {
    retryable: true,
    execution: 'unknown',
    counts_for_breaker: true,
    scope: 'venue',
    description: 'The exchange is overloaded, down or in maintenance.',
  },
  INSUFFICIENT_BALANCE: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'account',
    description: 'The account has not enough balance, margin or position.',
  },
  EXCHANGE_BAN: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: true,
    scope: 'ip',
    description: 'The exchange has shut the caller out for some time.',
  },
  VALIDATION_ERROR: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'request',
    description: 'The request breaks a rule of the market: a filter, a precision, a limit, the state of a symbol.',
  },
  BAD_REQUEST: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'request',
    description: 'The request is malformed: a parameter is missing, unknown or unreadable.',
  },
  AUTHENTICATION_ERROR: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'account',
    description: 'The key or the signature was not accepted.',
  },
  PERMISSION_DENIED: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'account',
    description: 'The account, the key or the address may not do this.',
  },
  NOT_FOUND: {
    retryable: false,
    execution: 'no',
    counts_for_breaker: false,
    scope: 'request',
    description: 'What the request names does not exist.',
  },
  DUPLICATE: {
    retryable: false,
    execution: 'yes',
    counts_for_breaker: false,
    scope: 'request',
    description: 'The exchange has this very request already: evidence that an earlier attempt arrived.',
  },
  UNKNOWN: {
    retryable: false,
    execution: 'unknown',
    counts_for_breaker: true,
    scope: 'request',
    description: 'No rule knows this error.',
  },
} as const satisfies Record<string, TypeFacts>

export type FailureType = keyof typeof facts
export const failureTypes: Readonly<Record<FailureType, TypeFacts>> = facts
export const failureTypeNames = Object.keys(facts) as [FailureType, ...FailureType[]]

/**
 * A status that a rule asks for: a number, a whole class, or `none`, which matches only where no answer came at all.
 * A connection error inside an answer is a proxy's word about somebody else's connection.
 */
export type StatusWanted = number | '4xx' | '5xx' | 'none'

/** One row of the classifier. A member that is null is not looked at; the first row that matches wins. */
export type Rule = {
  id: string
  /** Document and section that the row comes from. */
  source: string
  /** What the error means, in the words of the source where it has a name for it. */
  meaning: string
  exchange: string | null
  market: Market | null
  /** `any` matches every integer but 0, which clients use for "none". */
  code: number | string | null
  http_status: StatusWanted | null
  /** Searched in the message, then in the name and code. */
  pattern: RegExp | null
  /** A real message that the row is for; every row with a pattern has one. */
  example: string | null
  failure_type: FailureType
  retryable: boolean
  execution: Execution
  counts_for_breaker: boolean
  scope: Scope
}

/** A row as it is written down; what is left out comes from the failure type. */
export type RuleSpec = {
  id: string
  meaning: string
  failure_type: FailureType
  code?: number | string | undefined
  http_status?: StatusWanted | undefined
  pattern?: RegExp | undefined
  example?: string | undefined
  execution?: Execution | undefined
  counts_for_breaker?: boolean | undefined
  scope?: Scope | undefined
}

export type Place = { source: string; exchange?: string | undefined; market?: Market | undefined }

/** Completes a row from its place (source, exchange, market) and its failure type. */
export function rule(place: Place, spec: RuleSpec): Rule {
  const type = failureTypes[spec.failure_type]
  return {
    id: spec.id,
    source: place.source,
    meaning: spec.meaning,
    exchange: place.exchange ?? null,
    market: place.market ?? null,
    code: spec.code ?? null,
    http_status: spec.http_status ?? null,
    pattern: spec.pattern ?? null,
    example: spec.example ?? null,
    failure_type: spec.failure_type,
    retryable: type.retryable,
    execution: spec.execution ?? type.execution,
    counts_for_breaker: spec.counts_for_breaker ?? type.counts_for_breaker,
    scope: spec.scope ?? type.scope,
  }
}

/** What a code row may say beyond its type. `id` tells rows of one code apart. */
export type CodeRowMore = Omit<Partial<RuleSpec>, 'code' | 'meaning' | 'failure_type'>
/** A row of a table of codes: code, the source's name for it, failure type, and what differs from that type. */
export type CodeRow = readonly [code: number, meaning: string, failure_type: FailureType, more?: CodeRowMore]

/** Rows of one section of an exchange's list of codes. Ids are `<prefix>.<code>[.<id>]`. */
export const codeRules = (prefix: string, place: Place, rows: readonly CodeRow[]): Rule[] =>
  rows.map(([code, meaning, failure_type, more]) =>
    rule(place, {
      ...more,
      id: [prefix, code, more?.id].filter((part) => part !== undefined).join('.'),
      code,
      meaning,
      failure_type,
    }),
  )

/** One pattern of several, without regard to case. */
export const anyOf = (...patterns: readonly RegExp[]): RegExp =>
  new RegExp(patterns.map((pattern) => pattern.source).join('|'), 'i')
