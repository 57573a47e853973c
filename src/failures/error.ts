/**
 * Reads what callers send as `error`. Whatever reports an outcome is hard to refuse, so nothing here throws: a member
 * of the wrong type is ignored, and what is missing is searched for in the text.
 */
import { limits } from '../limits.ts'
import { cutAt } from '../text.ts'
import { markets, type Market } from './rule.ts'

/** A reported error after reading. `null`: neither said nor found in the text. */
export type ReportedErrorFacts = {
  /** At most `limits.errorMessageCharsMax` characters, well-formed. */
  message: string
  name: string | null
  code: string | number | null
  exchange: string | null
  market: Market | null
  http_status: number | null
  retry_after_seconds: number | null
}

type Members = Readonly<Record<string, unknown>>

/** Lone surrogates become U+FFFD. */
const cutText = (text: string, charsMax: number): string => Buffer.from(cutAt(text, charsMax)).toString()

/** A copy that is at most `depth` levels deep, since JSON.stringify overflows the stack on deep values. */
function shallow(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (depth === 0) return '…'
  if (Array.isArray(value)) return value.map((item) => shallow(item, depth - 1))
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, shallow(member, depth - 1)]))
}

const jsonText = (value: unknown): string => JSON.stringify(shallow(value, limits.jsonDepthMax)) ?? String(value)

const isMembers = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const word = (value: unknown): string | null =>
  typeof value === 'string' && value !== '' ? cutText(value, limits.errorWordCharsMax) : null

/** The code as an integer where it is one: the string "-1003" and the number -1003 are the same code. */
export function codeOf(value: unknown): string | number | null {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : null
  const text = word(value)
  return text !== null && /^(?:0|-?[1-9]\d{0,14})$/.test(text) ? Number(text) : text
}

const statusOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isInteger(value) && value >= 100 && value <= 599 ? value : null

const secondsOf = (value: unknown): number | null =>
  typeof value === 'number' && value >= 0 ? Math.min(value, limits.retryAfterSecondsMax) : null

const marketOf = (value: unknown): Market | null => markets.find((market) => market === value) ?? null

/** Ids under which ccxt knows one market of Binance. */
const binanceMarkets: Readonly<Record<string, Market>> = { binanceusdm: 'linear', binancecoinm: 'inverse' }

/** An exchange's id in lower case, and the market where the id names one (ccxt's `binanceusdm`). */
export function exchangeOf(value: unknown): { exchange: string | null; market: Market | null } {
  const id = word(value)?.trim().toLowerCase() ?? ''
  const market = Object.hasOwn(binanceMarkets, id) ? binanceMarkets[id] : undefined
  return market ? { exchange: 'binance', market } : { exchange: id === '' ? null : id, market: null }
}

/** Exchange ids of ccxt: a message of ccxt begins with one. Other words are not taken for an exchange. */
const ccxtExchanges = [
  'binance(?:usdm|coinm|us)?|okx|bybit|bitget|gate(?:io)?|kucoin(?:futures)?|kraken(?:futures)?|htx|huobi|mexc|bitmex',
  'coinbase(?:exchange|international)?|bitfinex|bitstamp|bingx|deribit|hyperliquid|gemini|cryptocom|phemex|poloniex',
  'upbit|bithumb|bitmart|whitebit|woo|ascendex|coinex|lbank|xt|dydx|backpack|paradex',
].join('|')
const ccxtForm = new RegExp(`(?:^|[\\s\\]])(${ccxtExchanges}) (?:\\{|\\[|GET |POST |PUT |DELETE |PATCH )`)

/** Binance's hosts and paths by product, from the "General Info" page of each product. */
const binanceHosts: readonly (readonly [RegExp, Market])[] = [
  [/\bfapi(?:\d|-mm)?\.binance\.com|\bfapi\/v\d/, 'linear'],
  [/\bdapi\.binance\.com|\bdapi\/v\d/, 'inverse'],
  [/\beapi\.binance\.com|\beapi\/v\d/, 'option'],
  [/\bpapi\.binance\.com|\bpapi\/v\d/, 'portfolio_margin'],
  [/\bapi(?:\d|-gcp)?\.binance\.com/, 'spot'],
]

function placeInText(text: string): { exchange: string | null; market: Market | null } {
  const host = binanceHosts.find(([pattern]) => pattern.test(text))
  const named = exchangeOf(ccxtForm.exec(text)?.[1])
  if (named.exchange !== null) return { exchange: named.exchange, market: named.market ?? host?.[1] ?? null }
  if (host) return { exchange: 'binance', market: host[1] }
  return { exchange: /\bBinance\w*(?:Exception|Error)\b/.test(text) ? 'binance' : null, market: null }
}

/** The forms in which clients print an exchange's code, most exact first. Bounded blanks keep the search linear. */
const codeForms: readonly RegExp[] = [
  /\bAPIError>?\s{0,4}\(?code=(-?\d{1,10})\b/, // python-binance, go-binance
  /\\?"code\\?"\s{0,4}:\s{0,4}\\?"?(-?\d{1,10})\b/, // the exchange's JSON, alone or inside a message of ccxt
  /'code'\s{0,4}:\s{0,4}'?(-?\d{1,10})\b/, // a Python dict
  /\(\d{3}, (-?\d{1,10}), /, // binance-connector-python: ClientError: (400, -1121, 'Invalid symbol.', …)
  /(?:Exception|Error)\b[:(]?\s{0,4}(-\d{4,7})\b/, // BinanceAPIException: -1003 TOO_MANY_REQUESTS
  /\bcode\s{0,4}[:=]\s{0,4}(-\d{4,7})\b/i,
  /^\s*(-\d{4,7})\b/,
]

const statusForms: readonly RegExp[] = [
  /\bstatus(?:[ _-]?code)?\\?["']?\s{0,4}(?:[:=]|is\b)?\s{0,4}([45]\d\d)\b/i, // axios, WebSocket API, "status code 418"
  /\bHTTP(?:\/\d(?:\.\d)?)?(?:\s+(?:error|status))?[\s:]+([45]\d\d)\b/i, // HTTP 418, HTTP/1.1 503, HTTP Error 502
  /\b(?:Client|Server)Error: \(?([45]\d\d)\b/, // binance-connector-python
  /\b([45]\d\d) (?:Client|Server) Error\b/, // requests: 502 Server Error: Bad Gateway for url
  /\b([45]\d\d), message=/, // aiohttp
  /'([45]\d\d) [A-Z][\w' -]{2,40}' for url/, // httpx
  /\b(?:GET|POST|PUT|DELETE) https?:\/\/\S+ ([45]\d\d)\b/, // ccxt
  /<(?:title|h\d)>([45]\d\d)\b/i, // a proxy's page, in messages of python-binance
  /\b([45]\d\d) (?:I'm a teapot|Too Many Requests|Forbidden|Unauthorized|Internal Server Error|Conflict)/i,
  /\b([45]\d\d) (?:Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out)/i,
]

const retryAfterForm = /\bretry-after\b\\?["']?\s{0,4}[:=]?\s{0,4}\\?["']?(\d{1,9})\b/i

function firstNumber(forms: readonly RegExp[], text: string): number | null {
  for (const form of forms) {
    const found = form.exec(text)?.slice(1).find(Boolean)
    if (found !== undefined) return Number(found)
  }
  return null
}

/** The message of an object without `message`: the exchange's own `msg`, else its JSON text. */
function messageOf(raw: unknown): string {
  if (typeof raw === 'string') return raw
  if (!isMembers(raw)) return jsonText(raw)
  if (typeof raw['message'] === 'string') return raw['message']
  if (typeof raw['msg'] === 'string') return raw['msg']
  const { name: _name, code: _code, http_status: _status, retry_after_seconds: _after, ...rest } = raw
  return Object.keys(rest).every((member) => member === 'exchange' || member === 'market') ? '' : jsonText(raw)
}

/**
 * Reads any JSON value as an error. Members win over what the text says, except that a code in the text wins over a
 * `code` that is a word (axios reports `ERR_BAD_REQUEST` beside the exchange's own answer).
 */
export function normaliseError(raw: unknown): ReportedErrorFacts {
  const members: Members = isMembers(raw) ? raw : {}
  const message = cutText(messageOf(raw), limits.errorMessageCharsMax)
  const said = exchangeOf(members['exchange'])
  const text = placeInText(message)
  const code = codeOf(members['code'])
  return {
    message,
    name: word(members['name']),
    code: typeof code === 'number' ? code : (firstNumber(codeForms, message) ?? code),
    exchange: said.exchange ?? text.exchange,
    market: marketOf(members['market']) ?? said.market ?? text.market,
    http_status: statusOf(members['http_status']) ?? firstNumber(statusForms, message),
    retry_after_seconds: secondsOf(members['retry_after_seconds']) ?? secondsOf(firstNumber([retryAfterForm], message)),
  }
}

/** An instant in ms that an exchange names: "IP banned until 1700000000000", `"retryAfter":1700000000000`. */
const untilForm = /\b(?:banned until|"?retryAfter\\?"?\s*:)\s*(\d{13})\b/i

/** Seconds to wait: said, or until the instant that the text names. At most `limits.retryAfterSecondsMax`. */
export function retryAfterSeconds(error: ReportedErrorFacts, nowMs: number): number | null {
  if (error.retry_after_seconds !== null) return error.retry_after_seconds
  const untilMs = untilForm.exec(error.message)?.[1]
  return untilMs === undefined ? null : secondsOf(Math.max(0, (Number(untilMs) - nowMs) / 1000))
}
