/** Codes of portfolio margin (papi), from its page "Error Codes" at developers.binance.com, May 2026. */
import { codeRules, type CodeRow, type Rule } from '../rule.ts'
import { filters, general, linearExecution, linearFilters, processing, request } from './binance-futures-common.ts'

const section = (name: string, rows: readonly CodeRow[]): Rule[] =>
  codeRules(
    'binance.portfolio_margin',
    { source: `Binance Portfolio Margin, Error Codes, ${name}`, exchange: 'binance', market: 'portfolio_margin' },
    rows,
  )

export const binancePortfolioMargin: readonly Rule[] = [
  ...section('10xx - General Server or Network issues', general),
  ...section('11xx - Request issues', request),
  ...section('20xx - Processing Issues', processing),
  ...section('40xx - Filters and other Issues', [
    ...filters,
    ...linearFilters,
    [-4220, 'CANNOT_CHANGE_DUAL_SIDE', 'VALIDATION_ERROR'],
    [-4405, 'UM_REDUCE_ONLY_ONLY', 'PERMISSION_DENIED'],
    [-4407, 'ACCOUNT_REDUCE_ONLY', 'PERMISSION_DENIED'],
    [-4415, 'CM_REDUCE_ONLY_ONLY', 'PERMISSION_DENIED'],
    [-4517, 'SYMBOL_REDUCE_ONLY', 'VALIDATION_ERROR'],
    [-4518, 'SYMBOL_REDUCE_ONLY_BUY', 'VALIDATION_ERROR'],
    [-4519, 'SYMBOL_REDUCE_ONLY_SELL', 'VALIDATION_ERROR'],
  ]),
  ...section('50xx/51xxx - Order Execution Issues', [
    ...linearExecution,
    // A time-out in a queue: the text does not say that the request was taken out of it.
    [-5041, 'TOO_MANY_REQUESTS_IN_QUEUE', 'RATE_LIMIT', { scope: 'account', execution: 'unknown' }],
    [51006, 'EXCEED_MAX_BORROWABLE', 'VALIDATION_ERROR', { scope: 'account' }],
    [51007, 'HAS_PENDING_TRANSACTION', 'TEMPORARY_ERROR', { scope: 'account', execution: 'no' }],
    [51014, 'ASSET_ADMIN_BAN_BORROW', 'VALIDATION_ERROR'],
    [51061, 'INSUFFICIENT_LOANABLE_ASSET', 'VALIDATION_ERROR'],
    [51068, 'LIQUIDATION_IN_PROGRESS', 'PERMISSION_DENIED'],
    [51078, 'NET_ASSET_MUST_LTE_RATIO', 'TEMPORARY_ERROR'],
    [51113, 'EXCEED_PRICE_LIMIT', 'VALIDATION_ERROR'],
    [51122, 'PM_FUNCTION_NOT_SUPPORTED', 'PERMISSION_DENIED'],
    [51998, 'SYSTEM_BUSY', 'SERVICE_UNAVAILABLE'],
    [51999, 'UNKNOWN', 'UNKNOWN'],
  ]),
]
