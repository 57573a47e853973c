/**
 * All built-in rules in the order in which they are tried. An exchange's own words and codes say most; then the
 * connection errors that are exact, the classes of ccxt, the HTTP status, and at last the vague words.
 */
import type { Rule } from '../rule.ts'
import { binanceAfterCodes, binanceBeforeCodes, binanceRefused } from './binance.ts'
import { binanceInverse } from './binance-inverse.ts'
import { binanceLinear } from './binance-linear.ts'
import { binanceOption } from './binance-option.ts'
import { binancePortfolioMargin } from './binance-portfolio-margin.ts'
import { binanceSpot } from './binance-spot.ts'
import { ccxt } from './ccxt.ts'
import { http } from './http.ts'
import { network, networkVague } from './network.ts'

export const rules: readonly Rule[] = [
  ...binanceBeforeCodes,
  ...binanceRefused,
  ...binanceSpot,
  ...binanceLinear,
  ...binanceInverse,
  ...binanceOption,
  ...binancePortfolioMargin,
  ...binanceAfterCodes,
  ...network,
  ...ccxt,
  ...http,
  ...networkVague,
]
