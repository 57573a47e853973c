/** Codes of USDⓈ-M futures, from the page "Error Codes" of that product at developers.binance.com, 2026. */
import { codeRules, type CodeRow, type Rule } from '../rule.ts'
import { filters, general, linearExecution, linearFilters, processing, request } from './binance-futures-common.ts'

const section = (name: string, rows: readonly CodeRow[]): Rule[] =>
  codeRules(
    'binance.linear',
    { source: `Binance USDⓈ-M Futures, Error Codes, ${name}`, exchange: 'binance', market: 'linear' },
    rows,
  )

export const binanceLinear: readonly Rule[] = [
  ...section('10xx - General Server or Network issues', [...general, [-1099, 'NOT_FOUND', 'NOT_FOUND']]),
  ...section('11xx - Request issues', [
    ...request,
    [-1122, 'INVALID_SYMBOL_STATUS', 'VALIDATION_ERROR'],
    [-1126, 'ASSET_NOT_SUPPORTED', 'VALIDATION_ERROR'],
  ]),
  ...section('20xx - Processing Issues', [
    ...processing,
    [-2012, 'CANCEL_ALL_FAIL', 'TEMPORARY_ERROR'], // some orders of the batch may be cancelled
    [-2017, 'API_KEYS_LOCKED', 'PERMISSION_DENIED'],
  ]),
  ...section('40xx - Filters and other Issues', [
    ...filters,
    ...linearFilters,
    [-4109, 'INACTIVE_ACCOUNT', 'PERMISSION_DENIED'],
    [-4116, 'DUPLICATED_CLIENT_ORDER_ID', 'DUPLICATE'],
    [-4117, 'STOP_ORDER_TRIGGERING', 'VALIDATION_ERROR'],
    [-4120, 'STOP_ORDER_SWITCH_ALGO', 'BAD_REQUEST'],
    [-4167, 'ISOLATED_REJECT_WITH_JOINT_MARGIN', 'VALIDATION_ERROR'],
    [-4168, 'JOINT_MARGIN_REJECT_WITH_ISOLATED', 'VALIDATION_ERROR'],
    [-4169, 'JOINT_MARGIN_REJECT_WITH_MB', 'INSUFFICIENT_BALANCE'],
    [-4170, 'JOINT_MARGIN_REJECT_WITH_OPEN_ORDER', 'VALIDATION_ERROR'],
    [-4171, 'NO_NEED_TO_CHANGE_JOINT_MARGIN', 'DUPLICATE'],
    [-4172, 'JOINT_MARGIN_REJECT_WITH_NEGATIVE_BALANCE', 'INSUFFICIENT_BALANCE'],
    [-4192, 'COOLING_OFF_PERIOD', 'PERMISSION_DENIED'],
    [-4202, 'ADJUST_LEVERAGE_KYC_FAILED', 'PERMISSION_DENIED'],
    [-4203, 'ADJUST_LEVERAGE_ONE_MONTH_FAILED', 'PERMISSION_DENIED'],
    [-4205, 'ADJUST_LEVERAGE_X_DAYS_FAILED', 'PERMISSION_DENIED'],
    [-4206, 'ADJUST_LEVERAGE_KYC_LIMIT', 'PERMISSION_DENIED'],
    [-4208, 'ADJUST_LEVERAGE_ACCOUNT_SYMBOL_FAILED', 'VALIDATION_ERROR', { scope: 'account' }],
    [-4209, 'ADJUST_LEVERAGE_SYMBOL_FAILED', 'VALIDATION_ERROR'],
    [-4210, 'STOP_PRICE_HIGHER_THAN_PRICE_MULTIPLIER_LIMIT', 'VALIDATION_ERROR'],
    [-4211, 'STOP_PRICE_LOWER_THAN_PRICE_MULTIPLIER_LIMIT', 'VALIDATION_ERROR'],
    [-4400, 'TRADING_QUANTITATIVE_RULE', 'PERMISSION_DENIED'],
    [-4401, 'LARGE_POSITION_SYM_RULE', 'PERMISSION_DENIED'],
    [-4402, 'COMPLIANCE_BLACK_SYMBOL_RESTRICTION', 'PERMISSION_DENIED'],
    [-4403, 'ADJUST_LEVERAGE_COMPLIANCE_FAILED', 'PERMISSION_DENIED'],
  ]),
  ...section('50xx - Order Execution Issues', [
    ...linearExecution,
    [-5024, 'MOVE_ORDER_NOT_ALLOWED_SYMBOL_REASON', 'VALIDATION_ERROR'],
    [-5025, 'LIMIT_ORDER_ONLY', 'VALIDATION_ERROR'],
    [-5026, 'Exceed_Maximum_Modify_Order_Limit', 'VALIDATION_ERROR'],
    [-5027, 'SAME_ORDER', 'DUPLICATE'],
    [-5029, 'MODIFICATION_MIN_NOTIONAL', 'VALIDATION_ERROR'],
    [-5037, 'INVALID_PRICE_MATCH', 'BAD_REQUEST'],
    [-5038, 'UNSUPPORTED_ORDER_TYPE_PRICE_MATCH', 'BAD_REQUEST'],
    [-5039, 'INVALID_SELF_TRADE_PREVENTION_MODE', 'BAD_REQUEST'],
    [-5040, 'FUTURE_GOOD_TILL_DATE', 'BAD_REQUEST'],
    [-5041, 'BBO_ORDER_REJECT', 'VALIDATION_ERROR'],
    [-5043, 'Existing_Pending_Modification', 'VALIDATION_ERROR'],
  ]),
]
