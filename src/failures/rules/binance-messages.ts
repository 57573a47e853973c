/**
 * What Binance's matching engine says in words. Spot sends these texts with -1010, -2010, -2011 and -2038; futures
 * send the first two with -2010. Rows for one code, to be followed by a row that takes the code with any other text.
 */
import { anyOf, type CodeRow } from '../rule.ts'

const notValid = anyOf(
  /not support/,
  /zero or less/,
  /exceeds QTY/,
  /Unsupported order combination/,
  /would trigger immediately/,
  /Cancel order is invalid/,
  /immediately match and take/,
  /relationship of the prices/,
  /due to cancel restrictions/,
  /liquidity is/,
  /pegged price/,
  /price peg/,
  /Market is closed/,
  /Filter failure/,
)

/** "Duplicate order sent.": the client order id is in use by an open order, so an earlier attempt arrived. */
export const duplicateOrder = (code: number): CodeRow => [
  code,
  'the client order id is in use',
  'DUPLICATE',
  { id: 'duplicate', pattern: /duplicate order sent/i, example: 'Duplicate order sent.' },
]

export const insufficientBalance = (code: number): CodeRow => [
  code,
  'not enough funds',
  'INSUFFICIENT_BALANCE',
  {
    id: 'insufficient',
    pattern: /insufficient (?:balance|margin)/i,
    example: 'Account has insufficient balance for requested action.',
  },
]

export const matchingEngineRows = (code: number): CodeRow[] => [
  duplicateOrder(code),
  insufficientBalance(code),
  [
    code,
    'the order could not be found',
    'NOT_FOUND',
    { id: 'unknown-order', pattern: /unknown order sent/i, example: 'Unknown order sent.' },
  ],
  [
    code,
    'the account may not do this',
    'PERMISSION_DENIED',
    {
      id: 'account',
      pattern:
        /disabled on this account|account may not|(?:permitted|restricted) for this account|trading is not enabled/i,
      example: 'This action is disabled on this account.',
    },
  ],
  [
    code,
    'all is already as the request asks',
    'DUPLICATE',
    {
      id: 'no-change',
      pattern: /would change no state/i,
      example: 'The requested action would change no state; rejecting.',
    },
  ],
  [
    code,
    'the order breaks a rule of the market',
    'VALIDATION_ERROR',
    { id: 'invalid', pattern: notValid, example: 'Order would immediately match and take.' },
  ],
]
