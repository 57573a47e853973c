/** Codes of COIN-M futures, from the page "Error Codes" of that product at developers.binance.com, 2026. */
import { codeRules, type CodeRow, type Rule } from '../rule.ts'
import { filters, general, processing, request } from './binance-futures-common.ts'

const section = (name: string, rows: readonly CodeRow[]): Rule[] =>
  codeRules(
    'binance.inverse',
    { source: `Binance COIN-M Futures, Error Codes, ${name}`, exchange: 'binance', market: 'inverse' },
    rows,
  )

export const binanceInverse: readonly Rule[] = [
  ...section('10xx - General Server or Network issues', general),
  ...section('11xx - Request issues', request),
  ...section('20xx - Processing Issues', processing),
  ...section('40xx - Filters and other Issues', [
    ...filters,
    [-4087, 'INVALID_PAIR', 'VALIDATION_ERROR'],
    [-4088, 'INVALID_TIME_INTERVAL', 'BAD_REQUEST'],
    [-4089, 'REDUCE_ONLY_ORDER_PERMISSION', 'PERMISSION_DENIED'],
    [-4090, 'NO_PLACE_ORDER_PERMISSION', 'PERMISSION_DENIED'],
    [-4110, 'INVALID_CLIENT_TRAN_ID_LEN', 'BAD_REQUEST'],
    [-4111, 'DUPLICATED_CLIENT_TRAN_ID', 'DUPLICATE'],
    [-4112, 'REDUCE_ONLY_MARGIN_CHECK_FAILED', 'INSUFFICIENT_BALANCE'],
    [-4113, 'MARKET_ORDER_REJECT', 'VALIDATION_ERROR'],
    [-4150, 'ISOLATED_LEVERAGE_REJECT_WITH_POSITION', 'VALIDATION_ERROR'],
    [-4151, 'PRICE_HIGHTER_THAN_STOP_MULTIPLIER_UP', 'VALIDATION_ERROR'],
    [-4152, 'PRICE_LOWER_THAN_STOP_MULTIPLIER_DOWN', 'VALIDATION_ERROR'],
    [-4154, 'STOP_PRICE_HIGHER_THAN_PRICE_MULTIPLIER_LIMIT', 'VALIDATION_ERROR'],
    [-4155, 'STOP_PRICE_LOWER_THAN_PRICE_MULTIPLIER_LIMIT', 'VALIDATION_ERROR'],
    [-4178, 'MIN_NOTIONAL', 'VALIDATION_ERROR'],
    [-4188, 'ME_INVALID_TIMESTAMP', 'TIMEOUT', { execution: 'no' }],
    [-4192, 'COOLING_OFF_PERIOD', 'PERMISSION_DENIED'],
    [-4194, 'ADJUST_LEVERAGE_KYC_FAILED', 'PERMISSION_DENIED'],
    [-4195, 'ADJUST_LEVERAGE_ONE_MONTH_FAILED', 'PERMISSION_DENIED'],
    [-4196, 'LIMIT_ORDER_ONLY', 'VALIDATION_ERROR'],
    [-4197, 'SAME_ORDER', 'DUPLICATE'],
    [-4198, 'EXCEED_MAX_MODIFY_ORDER_LIMIT', 'VALIDATION_ERROR'],
    [-4199, 'MOVE_ORDER_NOT_ALLOWED_SYMBOL_REASON', 'VALIDATION_ERROR'],
    [-4200, 'ADJUST_LEVERAGE_X_DAYS_FAILED', 'PERMISSION_DENIED'],
    [-4201, 'ADJUST_LEVERAGE_KYC_LIMIT', 'PERMISSION_DENIED'],
    [-4202, 'ADJUST_LEVERAGE_ACCOUNT_SYMBOL_FAILED', 'VALIDATION_ERROR', { scope: 'account' }],
  ]),
]
