/**
 * Exception classes of ccxt. The class stands in `name`, or before the exchange's id in the text. An exchange's own
 * code says more where its table knows it, so these come after the tables.
 */
import { rule, type CodeRowMore, type FailureType, type Rule } from '../rule.ts'

const place = { source: 'ccxt, base/errors, error hierarchy' }

const classes: readonly (readonly [name: string, failure_type: FailureType, more?: CodeRowMore])[] = [
  ['AccountNotEnabled', 'PERMISSION_DENIED'],
  ['AccountSuspended', 'PERMISSION_DENIED'],
  ['PermissionDenied', 'PERMISSION_DENIED'],
  ['AuthenticationError', 'AUTHENTICATION_ERROR'],
  ['InsufficientFunds', 'INSUFFICIENT_BALANCE'],
  ['DuplicateOrderId', 'DUPLICATE'],
  ['NoChange', 'DUPLICATE'],
  ['MarginModeAlreadySet', 'DUPLICATE'],
  // Both for a cancel of an unknown order and for a query: absence is not proven.
  ['OrderNotFound', 'NOT_FOUND', { execution: 'unknown' }],
  ['OrderNotCached', 'NOT_FOUND', { execution: 'unknown' }],
  ['CancelPending', 'VALIDATION_ERROR', { execution: 'unknown' }],
  ['OrderImmediatelyFillable', 'VALIDATION_ERROR'],
  ['OrderNotFillable', 'VALIDATION_ERROR'],
  ['ContractUnavailable', 'VALIDATION_ERROR'],
  ['InvalidOrder', 'VALIDATION_ERROR'],
  ['MarketClosed', 'VALIDATION_ERROR'],
  ['AddressPending', 'VALIDATION_ERROR'],
  ['InvalidAddress', 'VALIDATION_ERROR'],
  ['BadSymbol', 'VALIDATION_ERROR'],
  ['OperationRejected', 'VALIDATION_ERROR'],
  ['BadRequest', 'BAD_REQUEST'],
  ['ArgumentsRequired', 'BAD_REQUEST'],
  ['NotSupported', 'BAD_REQUEST'],
  ['RateLimitExceeded', 'RATE_LIMIT'],
  ['DDoSProtection', 'RATE_LIMIT'],
  ['OnMaintenance', 'SERVICE_UNAVAILABLE'],
  ['InvalidNonce', 'TIMEOUT', { execution: 'no' }],
  ['ExchangeNotAvailable', 'SERVICE_UNAVAILABLE'],
  ['RequestTimeout', 'TIMEOUT'],
  ['NullResponse', 'TEMPORARY_ERROR'],
  ['BadResponse', 'TEMPORARY_ERROR'],
  ['NetworkError', 'NETWORK_ERROR'],
  ['OperationFailed', 'TEMPORARY_ERROR'],
]

export const ccxt: readonly Rule[] = classes.map(([name, failure_type, more]) =>
  rule(place, {
    ...more,
    id: `ccxt.${name}`,
    meaning: `ccxt.${name}`,
    failure_type,
    pattern: new RegExp(`\\b${name}\\b`),
    example: `ccxt.base.errors.${name}: kraken {"error":["…"]}`,
  }),
)
