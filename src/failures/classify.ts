/** Names what went wrong: the failure type, whether the effect may have happened, and what follows from it. */
import { codeOf, exchangeOf, normaliseError, retryAfterSeconds, type ReportedErrorFacts } from './error.ts'
import {
  failureTypeNames,
  failureTypes,
  rule,
  type Execution,
  type FailureType,
  type Market,
  type Rule,
  type Scope,
} from './rule.ts'
import { rules as builtInRules } from './rules/index.ts'

export { normaliseError, type ReportedErrorFacts } from './error.ts'
export type { Execution, FailureType, Market, Scope } from './rule.ts'

export type Classification = {
  failure_type: FailureType
  retryable: boolean
  execution: Execution
  counts_for_breaker: boolean
  scope: Scope
  code: string | number | null
  exchange: string
  market: Market
  /** The id of the rule that matched. */
  rule: string
  retry_after_seconds: number | null
}

/** A rule of a deployment, tried before all built-in ones, in the order of the configuration. */
export type ConfiguredRule = {
  exchange: string
  market?: Market | undefined
  /** The string of an integer is that integer; `any` is every integer but 0. */
  code?: number | string | undefined
  http_status?: number | undefined
  /** A JavaScript regular expression, searched case-insensitively in the message, then in the name and code. */
  pattern?: string | undefined
  failure_type: FailureType
  execution?: Execution | undefined
  counts_for_breaker?: boolean | undefined
}

export type ListedRule = Omit<Rule, 'id' | 'pattern'> & { rule: string; pattern: string | null }
export type ListedType = { failure_type: FailureType } & (typeof failureTypes)[FailureType]

export type ClassifyOptions = { exchange?: string | undefined; market?: Market | undefined; nowMs: number }
export type Classifier = {
  /** Classifies any JSON value; never throws. `nowMs` turns "banned until <ms>" into seconds. */
  classify: (error: unknown, options: ClassifyOptions) => Classification
  /** All rules in the order in which they are tried. */
  rules: () => ListedRule[]
  types: () => ListedType[]
}

const unknownRule = rule(
  { source: 'Effectonce' },
  { id: 'unknown', meaning: 'No rule knows this error', failure_type: 'UNKNOWN' },
)

function compilePattern(pattern: string, number: number): RegExp {
  try {
    return new RegExp(pattern, 'i')
  } catch (cause) {
    throw new Error(`failures.rules: rule ${number} has a pattern that is no regular expression: ${pattern}`, { cause })
  }
}

function configuredRule(configured: ConfiguredRule, number: number): Rule {
  const { code, pattern } = configured
  const { exchange, market } = exchangeOf(configured.exchange)
  return rule(
    {
      source: 'failures.rules of the configuration',
      exchange: exchange ?? undefined,
      market: configured.market ?? market ?? undefined,
    },
    {
      ...configured,
      id: `configured.${number}`,
      meaning: 'A rule of this deployment',
      code: codeOf(code) ?? undefined,
      pattern: pattern === undefined ? undefined : compilePattern(pattern, number),
    },
  )
}

type Subject = ReportedErrorFacts & { exchange: string; market: Market; label: string }

const codeMatches = (wanted: Rule['code'], code: Subject['code']): boolean =>
  wanted === 'any' ? Number.isInteger(code) && code !== 0 : wanted === code

function statusMatches(wanted: NonNullable<Rule['http_status']>, status: number | null): boolean {
  if (wanted === 'none') return status === null
  if (typeof wanted === 'number') return wanted === status
  return status !== null && Math.floor(status / 100) === Number(wanted[0])
}

const matches = (candidate: Rule, error: Subject): boolean =>
  (candidate.exchange === null || candidate.exchange === error.exchange) &&
  (candidate.market === null || candidate.market === error.market) &&
  (candidate.code === null || codeMatches(candidate.code, error.code)) &&
  (candidate.http_status === null || statusMatches(candidate.http_status, error.http_status)) &&
  (candidate.pattern === null || candidate.pattern.test(error.message) || candidate.pattern.test(error.label))

function subjectOf(raw: unknown, options: ClassifyOptions, defaultExchange: string): Subject {
  const error = normaliseError(raw)
  const asked = exchangeOf(options.exchange)
  return {
    ...error,
    exchange: asked.exchange ?? error.exchange ?? defaultExchange,
    market: options.market ?? asked.market ?? error.market ?? 'spot',
    label: [error.name, error.code].filter((part) => typeof part === 'string').join(' '),
  }
}

const listed = ({ id, pattern, ...rest }: Rule): ListedRule => ({ rule: id, ...rest, pattern: pattern?.source ?? null })

/**
 * Makes the classifier of one configuration. Throws with the number of the rule (from 1) if a configured pattern is no
 * regular expression. The exchange is the option's, else the error's, else the text's, else `default_exchange`; the
 * market likewise, else `spot`.
 */
export function createClassifier(configuration: {
  rules: readonly ConfiguredRule[]
  default_exchange: string
}): Classifier {
  const configured = configuration.rules.map((entry, index) => configuredRule(entry, index + 1))
  const ordered = [...configured, ...builtInRules]
  const defaultExchange = exchangeOf(configuration.default_exchange).exchange ?? 'binance'

  return {
    classify: (raw, options) => {
      const error = subjectOf(raw, options, defaultExchange)
      const found = ordered.find((candidate) => matches(candidate, error)) ?? unknownRule
      return {
        failure_type: found.failure_type,
        retryable: found.retryable,
        execution: found.execution,
        counts_for_breaker: found.counts_for_breaker,
        scope: found.scope,
        code: error.code,
        exchange: error.exchange,
        market: error.market,
        rule: found.id,
        retry_after_seconds: retryAfterSeconds(error, options.nowMs),
      }
    },
    rules: () => [...ordered, unknownRule].map(listed),
    types: () => failureTypeNames.map((name) => ({ failure_type: name, ...failureTypes[name] })),
  }
}
