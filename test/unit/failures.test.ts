import t from 'tap'
import { z } from 'zod'
import fastJsonStringify from 'fast-json-stringify'
import { createClassifier, normaliseError, type ConfiguredRule, type Market } from '../../src/failures/classify.ts'
import { markets } from '../../src/failures/rule.ts'
import {
  classificationSchema,
  classifyBodySchema,
  errorSchema,
  rulesSchema,
  typesSchema,
} from '../../src/failures/schema.ts'

const nowMs = 1_700_000_000_000
const make = (rules: ConfiguredRule[] = [], default_exchange = 'binance') =>
  createClassifier({ rules, default_exchange })
const classifier = make()
const classify = (error: unknown, market?: Market) => classifier.classify(error, { market, nowMs })
const brief = (error: unknown, market?: Market) => {
  const { failure_type, execution } = classify(error, market)
  return `${failure_type} ${execution}`
}

t.test("the seed's example: BinanceAPIException: -1003 TOO_MANY_REQUESTS is a retryable RATE_LIMIT", async (t) => {
  t.same(classify('BinanceAPIException: -1003 TOO_MANY_REQUESTS'), {
    failure_type: 'RATE_LIMIT',
    retryable: true,
    execution: 'no',
    counts_for_breaker: true,
    scope: 'ip',
    code: -1003,
    exchange: 'binance',
    market: 'spot',
    rule: 'binance.spot.-1003',
    retry_after_seconds: null,
  })
})

const seed: [code: number, expected: string, retryable: boolean][] = [
  [-1003, 'RATE_LIMIT no', true],
  [-1021, 'TIMEOUT no', true],
  [-1006, 'TEMPORARY_ERROR unknown', true],
  [-1007, 'TIMEOUT unknown', true],
  [-2010, 'INSUFFICIENT_BALANCE no', false],
  [-1013, 'VALIDATION_ERROR no', false],
  [-1111, 'VALIDATION_ERROR no', false],
  [-1102, 'BAD_REQUEST no', false],
]

for (const [code, expected, retryable] of seed) {
  t.test(`${code} is ${expected}, as integer, as string and in a text`, async (t) => {
    for (const error of [
      { code },
      { code: String(code) },
      `BinanceAPIException: ${code}`,
      `APIError(code=${code}): x`,
    ]) {
      t.equal(brief(error), expected)
      t.equal(classify(error).retryable, retryable)
      t.equal(classify(error).code, code)
    }
  })
}

/** -2010 is not among them: each market's own list says what it means there. */
const inEveryMarket = seed.filter(([code]) => code !== -2010)

for (const market of markets) {
  t.test(`codes that the contract names for no market in particular mean the same in ${market}`, async (t) => {
    for (const [code, expected, retryable] of inEveryMarket) {
      t.equal(brief({ code, message: 'x' }, market), expected, String(code))
      t.equal(classify({ code, message: 'x' }, market).retryable, retryable, String(code))
    }
    const unexpected = 'An unexpected response was received from the message bus. Execution status unknown.'
    t.equal(brief({ code: -1006, message: unexpected }, market), 'TEMPORARY_ERROR unknown')
    t.equal(brief({ code: -1003, message: 'IP banned until 1700000060000.' }, market), 'EXCHANGE_BAN no')
  })
}

t.test('-2010 without a text that refines it means what the list of each market says', async (t) => {
  t.equal(brief({ code: -2010, message: 'x' }, 'spot'), 'INSUFFICIENT_BALANCE no')
  for (const market of markets.filter((name) => name !== 'spot')) {
    t.equal(brief({ code: -2010, message: 'x' }, market), 'VALIDATION_ERROR no', market)
    t.equal(brief({ code: -2010, message: insufficient }, market), 'INSUFFICIENT_BALANCE no', market)
    t.equal(brief({ code: -2010, message: 'Duplicate order sent.' }, market), 'DUPLICATE yes', market)
  }
})

const insufficient = 'Account has insufficient balance for requested action.'
const forms: [client: string, error: unknown, rule: string][] = [
  ['python-binance', `APIError(code=-2010): ${insufficient}`, 'binance.spot.-2010.insufficient'],
  [
    'python-binance, an order exception',
    'BinanceOrderException(code=-1013): Price must be at least 1',
    'binance.spot.-1013',
  ],
  [
    "python-binance, a proxy's page",
    'APIError(code=0): Invalid JSON error message from Binance: <html><head><title>502 Bad Gateway</title></head></html>',
    'http.502',
  ],
  ['ccxt', `binance {"code":-2010,"msg":"${insufficient}"}`, 'binance.spot.-2010.insufficient'],
  [
    'ccxt with its class',
    'ccxt.base.errors.InvalidOrder: binance {"code":-1013,"msg":"Filter failure: LOT_SIZE"}',
    'binance.spot.-1013',
  ],
  [
    'ccxt, USDⓈ-M',
    'InsufficientFunds: binanceusdm {"code":-2019,"msg":"Margin is insufficient."}',
    'binance.linear.-2019',
  ],
  ['ccxt, COIN-M', 'binancecoinm {"code":-4111,"msg":"clientTranId is duplicated."}', 'binance.inverse.-4111'],
  [
    'ccxt, a URL that names the market',
    'binance POST https://papi.binance.com/papi/v1/um/order 400 Bad Request {"code":-4405,"msg":"Only reduceOnly order is allowed"}',
    'binance.portfolio_margin.-4405',
  ],
  [
    'ccxt, another exchange',
    'InsufficientFunds: okx {"code":"1","data":[{"sCode":"51008"}]}',
    'ccxt.InsufficientFunds',
  ],
  [
    'ccxt, the class as name',
    { name: 'DuplicateOrderId', message: 'bybit {"retCode":110072}' },
    'ccxt.DuplicateOrderId',
  ],
  ['go-binance', '<APIError> code=-1121, msg=Invalid symbol.', 'binance.spot.-1121'],
  [
    'binance-connector-python',
    "ClientError: (400, -1121, 'Invalid symbol.', {'Server': 'nginx'})",
    'binance.spot.-1121',
  ],
  [
    'hummingbot',
    "Error executing request POST https://api.binance.com/api/v3/order. HTTP status is 400. Error: {'code': -1111, 'msg': 'x'}",
    'binance.spot.-1111',
  ],
  ["the exchange's JSON as text", '{"code":-1121,"msg":"Invalid symbol."}', 'binance.spot.-1121'],
  ["the exchange's JSON as object", { code: -2010, msg: insufficient }, 'binance.spot.-2010.insufficient'],
  [
    'the WebSocket API',
    { id: '1', status: 400, error: { code: -2010, msg: insufficient } },
    'binance.spot.-2010.insufficient',
  ],
  [
    'axios with the answer in it',
    { response: { status: 400, data: { code: -2010, msg: 'Duplicate order sent.' } } },
    'binance.spot.-2010.duplicate',
  ],
  ['a message without its code', 'Duplicate order sent.', 'binance.text.duplicate'],
]

for (const [client, error, rule] of forms) {
  t.test(`the form of ${client} is understood`, async (t) => t.equal(classify(error).rule, rule))
}

t.test('the message refines the code: a duplicate is evidence that the first order exists', async (t) => {
  t.equal(brief({ code: -2010, message: 'Duplicate order sent.' }), 'DUPLICATE yes')
  t.equal(brief({ code: -4116, message: 'ClientOrderId is duplicated.' }, 'linear'), 'DUPLICATE yes')
  t.equal(brief({ code: -2010, message: insufficient }), 'INSUFFICIENT_BALANCE no')
  t.equal(brief({ code: -2010, message: 'Order would immediately match and take.' }), 'VALIDATION_ERROR no')
  t.equal(brief({ code: -2010, message: 'This action is disabled on this account.' }), 'PERMISSION_DENIED no')
})

t.test('the same code means different things in different markets', async (t) => {
  t.equal(brief({ code: -2021 }), 'VALIDATION_ERROR partial')
  t.equal(brief({ code: -2021 }, 'linear'), 'VALIDATION_ERROR no')
  t.equal(brief({ code: -4088 }, 'linear'), 'PERMISSION_DENIED no')
  t.equal(brief({ code: -4088 }, 'inverse'), 'BAD_REQUEST no')
  t.equal(brief({ code: -1008 }), 'SERVICE_UNAVAILABLE unknown')
  t.equal(brief({ code: -1008 }, 'inverse'), 'SERVICE_UNAVAILABLE no')
  t.equal(brief({ code: -1008 }, 'option'), 'RATE_LIMIT no')
  t.equal(brief({ code: -5041 }, 'portfolio_margin'), 'RATE_LIMIT unknown')
})

t.test('an order that a query does not find is no proof of absence', async (t) => {
  for (const market of ['spot', 'linear', 'inverse', 'option', 'portfolio_margin'] as const) {
    t.equal(brief({ code: -2013 }, market), 'NOT_FOUND unknown')
  }
})

t.test('a cancel-replace that half succeeded is partial', async (t) => {
  t.equal(brief({ http_status: 409, message: 'Conflict' }), 'VALIDATION_ERROR partial')
  t.equal(
    brief(
      'binance POST https://api.binance.com/api/v3/order/cancelReplace 409 Conflict {"code":-2021,"msg":"Order cancel-replace partially failed."}',
    ),
    'VALIDATION_ERROR partial',
  )
  t.equal(brief({ http_status: 409, exchange: 'kraken' }), 'UNKNOWN unknown')
})

t.test('the texts of a 503 decide whether it was executed, in futures', async (t) => {
  const at = (message: string, market: Market) => brief({ http_status: 503, message }, market)
  for (const market of ['linear', 'inverse', 'portfolio_margin'] as const) {
    t.equal(at('Service Unavailable.', market), 'SERVICE_UNAVAILABLE no')
    t.equal(at('Internal error; unable to process your request. Please try again.', market), 'TEMPORARY_ERROR no')
    t.equal(at('Unknown error, please check your request or try again later.', market), 'TIMEOUT unknown')
    t.equal(
      at('<h1>503 Service Unavailable</h1>', market),
      'SERVICE_UNAVAILABLE unknown',
      "a proxy's page proves nothing",
    )
  }
  t.equal(at('Service Unavailable.', 'spot'), 'SERVICE_UNAVAILABLE unknown', 'spot documents no exception')
})

t.test('a ban is scoped to the IP address and says how long it lasts', async (t) => {
  const text = `Way too much request weight used; IP banned until ${nowMs + 90_500}. Please use WebSocket Streams for live updates to avoid bans.`
  for (const error of [{ code: -1003, message: text, http_status: 418 }, { code: -1003, message: text }, text]) {
    const found = classify(error)
    t.equal(found.failure_type, 'EXCHANGE_BAN')
    t.equal(found.retryable, false)
    t.equal(found.execution, 'no')
    t.equal(found.scope, 'ip')
    t.equal(found.counts_for_breaker, true)
    t.equal(found.retry_after_seconds, 90.5)
  }
  t.equal(brief({ http_status: 418 }), 'EXCHANGE_BAN no')
  t.equal(brief({ http_status: 403 }), 'EXCHANGE_BAN no')
})

t.test('how long to wait: what is said, a header in the text, an instant; never negative, never endless', async (t) => {
  const after = (error: unknown) => classify(error).retry_after_seconds
  t.equal(after({ http_status: 429, retry_after_seconds: 1.5 }), 1.5)
  t.equal(after({ retry_after_seconds: 2, message: `banned until ${nowMs + 9000}` }), 2, 'what is said wins')
  t.equal(after("429 Too Many Requests {'Retry-After': '30'}"), 30)
  t.equal(after({ status: 418, error: { code: -1003, data: { retryAfter: nowMs + 60_000 } } }), 60)
  t.equal(after(`banned until ${nowMs - 5000}`), 0)
  t.equal(after('banned until 9999999999999'), 604_800)
  t.equal(after({ retry_after_seconds: 1e12 }), 604_800)
  t.equal(after({ retry_after_seconds: -1 }), null)
  t.equal(after({ retry_after_seconds: '5' }), null)
})

t.test('limits on orders concern the account, limits on requests the IP address', async (t) => {
  t.equal(classify({ code: -1015 }).scope, 'account')
  t.equal(classify({ code: -1003 }).scope, 'ip')
  t.equal(classify({ http_status: 503, exchange: 'kraken' }).scope, 'venue')
})

const neverMade: [client: string, text: string][] = [
  [
    'requests, refused',
    "HTTPSConnectionPool(host='api.binance.com', port=443): Max retries exceeded with url: /api/v3/order (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))",
  ],
  [
    'requests, connect time-out',
    "HTTPSConnectionPool(host='api.binance.com', port=443): Max retries exceeded with url: /api/v3/order (Caused by ConnectTimeoutError(<urllib3.connection.HTTPSConnection object at 0x7f>, 'Connection to api.binance.com timed out. (connect timeout=5)'))",
  ],
  ['requests, DNS', "Failed to resolve 'api.binance.com' ([Errno -3] Temporary failure in name resolution)"],
  ['aiohttp', "Cannot connect to host api.binance.com:443 ssl:default [Connect call failed ('52.84.150.34', 443)]"],
  ['httpx', 'httpx.ConnectError: All connection attempts failed'],
  ['Node, refused', 'connect ECONNREFUSED 127.0.0.1:443'],
  ['Node, time-out', 'connect ETIMEDOUT 52.84.150.34:443'],
  ['Node, DNS', 'getaddrinfo EAI_AGAIN api.binance.com'],
  ['undici', 'ConnectTimeoutError: Connect Timeout Error (attempted address: api.binance.com:443, timeout: 10000ms)'],
  [
    'Go, dial',
    'Post "https://api.binance.com/api/v3/order": dial tcp 52.84.150.34:443: i/o timeout (Client.Timeout exceeded while awaiting headers)',
  ],
  ['Go, DNS', 'Post "https://api.binance.com/api/v3/order": dial tcp: lookup api.binance.com: no such host'],
  ['Go, TLS', 'Get "https://api.binance.com": net/http: TLS handshake timeout'],
  ['Java, refused', 'java.net.ConnectException: Connection refused (Connection refused)'],
  ['Java, time-out', 'java.net.SocketTimeoutException: connect timed out'],
  ['Java, DNS', 'java.net.UnknownHostException: api.binance.com'],
]

for (const [client, text] of neverMade) {
  t.test(`no connection was made, so nothing was executed: ${client}`, async (t) => {
    const found = classify(text)
    t.match(found.failure_type, /^(NETWORK_ERROR|TIMEOUT)$/)
    t.equal(found.execution, 'no')
    t.equal(found.retryable, true)
  })
}

const mayHaveArrived: [client: string, error: unknown][] = [
  [
    'requests, read time-out',
    "HTTPSConnectionPool(host='api.binance.com', port=443): Read timed out. (read timeout=10)",
  ],
  ['requests, aborted', "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))"],
  ['requests, reset', "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"],
  ['aiohttp', 'aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected'],
  ['asyncio', { name: 'TimeoutError', message: '' }],
  ['httpx', { name: 'ReadTimeout', message: '' }],
  ['Node, reset', { code: 'ECONNRESET', message: 'read ECONNRESET' }],
  ['Node, hang up', 'socket hang up'],
  ['Node, ETIMEDOUT alone', { code: 'ETIMEDOUT' }],
  ['undici', { code: 'UND_ERR_HEADERS_TIMEOUT', message: 'Headers Timeout Error' }],
  ['fetch', 'TypeError: fetch failed'],
  ['axios', { code: 'ECONNABORTED', message: 'timeout of 5000ms exceeded' }],
  ['ccxt', 'RequestTimeout: kraken POST https://api.kraken.com/0/private/AddOrder request timed out (10000 ms)'],
  [
    'Go, deadline',
    'Post "https://api.binance.com/api/v3/order": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
  ],
  ['Go, reset', 'read tcp 10.0.0.5:51234->52.84.150.34:443: read: connection reset by peer'],
  ['Go, EOF', 'Post "https://api.binance.com/api/v3/order": EOF'],
  ['Java, read time-out', 'java.net.SocketTimeoutException: Read timed out'],
  ['Java, request time-out', 'java.net.http.HttpTimeoutException: request timed out'],
  ['Java, reset', 'java.net.SocketException: Connection reset'],
  [
    'two attempts, the first of which was sent',
    'attempt 1: socket hang up; attempt 2: connect ECONNREFUSED 52.84.150.34:443',
  ],
]

for (const [client, error] of mayHaveArrived) {
  t.test(`the request may have arrived: ${client}`, async (t) => {
    const found = classify(error)
    t.match(found.failure_type, /^(NETWORK_ERROR|TIMEOUT)$/)
    t.equal(found.execution, 'unknown')
    t.equal(found.retryable, true)
  })
}

t.test('inside an answer the words of a connection error are a proxy speaking of another connection', async (t) => {
  t.equal(
    brief({ http_status: 502, message: 'upstream connect error: connection refused' }),
    'SERVICE_UNAVAILABLE unknown',
  )
  t.equal(brief({ http_status: 400, message: 'the parameter timeout is not valid' }), 'BAD_REQUEST no')
})

t.test('what nobody knows stays UNKNOWN: not retryable, in doubt, counted', async (t) => {
  for (const error of [
    'something odd',
    '',
    null,
    {},
    [],
    7,
    { code: -9999 },
    { code: -9999, http_status: 400 },
    { exchange: 'okx', code: 51008 },
  ]) {
    const { failure_type, retryable, execution, counts_for_breaker } = classify(error)
    t.same(
      { failure_type, retryable, execution, counts_for_breaker },
      { failure_type: 'UNKNOWN', retryable: false, execution: 'unknown', counts_for_breaker: true },
    )
  }
})

t.test(
  'exchange and market: the option wins over the member, the member over the text, the text over the default',
  async (t) => {
    const error = { message: 'binanceusdm {"code":-2019}', exchange: 'OKX', market: 'option' }
    const place = (given: unknown, options: { exchange?: string; market?: Market } = {}, from = classifier) => {
      const { exchange, market } = from.classify(given, { ...options, nowMs })
      return `${exchange} ${market}`
    }
    t.equal(place(error, { exchange: 'bybit', market: 'inverse' }), 'bybit inverse')
    t.equal(place(error), 'okx option')
    t.equal(place(error.message), 'binance linear')
    t.equal(place('x'), 'binance spot')
    t.equal(place('x', {}, make([], 'Kraken')), 'kraken spot')
    t.equal(place({ exchange: 'binancecoinm' }), 'binance inverse')
    t.equal(place('https://eapi.binance.com/eapi/v1/order failed', {}, make([], 'kraken')), 'binance option')
  },
)

t.test("a deployment's rules are tried first, in order, and override the defaults of the type", async (t) => {
  const own = make([
    { exchange: 'okx', code: '51008', failure_type: 'INSUFFICIENT_BALANCE' },
    {
      exchange: 'binance',
      market: 'linear',
      code: -1003,
      failure_type: 'SERVICE_UNAVAILABLE',
      execution: 'no',
      counts_for_breaker: false,
    },
    { exchange: 'bybit', http_status: 403, pattern: 'ACCESS too frequent', failure_type: 'RATE_LIMIT' },
    { exchange: 'binanceusdm', code: -4411, failure_type: 'PERMISSION_DENIED' },
  ])
  const at = (error: unknown) => own.classify(error, { nowMs })
  t.equal(at({ exchange: 'okx', code: 51008 }).rule, 'configured.1')
  const second = at({ code: -1003, market: 'linear' })
  t.same(
    [second.rule, second.execution, second.counts_for_breaker, second.retryable],
    ['configured.2', 'no', false, true],
  )
  t.equal(at({ code: -1003 }).rule, 'binance.spot.-1003', 'another market is not meant')
  t.equal(at({ exchange: 'bybit', http_status: 403, message: 'Access too frequent' }).rule, 'configured.3')
  t.equal(at({ exchange: 'bybit', http_status: 403 }).rule, 'http.403')
  t.equal(at({ code: '-4411', market: 'linear' }).rule, 'configured.4')
  t.same(
    own
      .rules()
      .slice(0, 4)
      .map((rule) => rule.rule),
    ['configured.1', 'configured.2', 'configured.3', 'configured.4'],
  )
  t.equal(own.rules().at(-1)?.rule, 'unknown')
})

t.test('a configured pattern that is no regular expression stops the start with the number of its rule', async (t) => {
  const good: ConfiguredRule = { exchange: 'okx', pattern: 'fine', failure_type: 'TIMEOUT' }
  t.throws(() => make([good, { ...good, pattern: '(' }]), { message: /rule 2 has a pattern/ })
})

t.test('a member of the wrong type is ignored, and a message of another type becomes its JSON text', async (t) => {
  t.same(
    normaliseError({
      message: 'm',
      name: 3,
      code: [],
      exchange: 5,
      market: 'cash',
      http_status: '418',
      retry_after_seconds: 'x',
    }),
    {
      message: 'm',
      name: null,
      code: null,
      exchange: null,
      market: null,
      http_status: null,
      retry_after_seconds: null,
    },
  )
  t.equal(normaliseError([1, 'a']).message, '[1,"a"]')
  t.equal(normaliseError(7).message, '7')
  t.equal(normaliseError(null).message, 'null')
  t.equal(normaliseError({ reason: 'x' }).message, '{"reason":"x"}')
  t.equal(normaliseError({ code: -1003 }).message, '')
  t.equal(normaliseError({ code: 1.5 }).code, null)
  t.equal(normaliseError({ code: '007' }).code, '007', 'a code with leading zeros is no integer')
  t.equal(normaliseError({ http_status: 99 }).http_status, null)
})

t.test('a message is cut at 2,000 characters and stays well-formed', async (t) => {
  t.equal(normaliseError('x'.repeat(2001)).message.length, 2000)
  const most = 'x'.repeat(1999) + '😀'
  t.equal(normaliseError(`${most}x`).message, most, 'an emoji is one character, and not split')
  t.equal(normaliseError('😀'.repeat(2001)).message, '😀'.repeat(2000))
  t.equal(normaliseError('\ud83d'.repeat(2001)).message, '\ufffd'.repeat(2000))
  t.equal(normaliseError('a\ud800b').message, 'a\ufffdb')
})

t.test('an error 100,000 levels deep is classified', async (t) => {
  const deep: unknown = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000))
  t.equal(classify(deep).failure_type, 'UNKNOWN')
  t.equal(classify({ message: deep }).failure_type, 'UNKNOWN')
  t.equal(classify({ code: -1003, message: 'x', own: deep }).failure_type, 'RATE_LIMIT')
  t.ok(errorSchema.safeParse(deep).success)
})

/** A small generator of JSON values, the same in every run. */
function* jsonValues(count: number): Generator<unknown> {
  let state = 42
  const next = (below: number) => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) % below
  const words = [
    'message',
    'code',
    'msg',
    'exchange',
    'market',
    'http_status',
    'retry_after_seconds',
    '__proto__',
    'toString',
  ]
  const texts = [
    'binance {"code":-2010',
    'APIError(code=',
    'banned until 17',
    '\ud800',
    'Retry-After: 9999999999',
    'constructor',
    '',
  ]
  const value = (depth: number): unknown => {
    const kind = next(depth > 4 ? 5 : 7)
    if (kind === 0) return texts[next(texts.length)]
    if (kind === 1) return next(4000) - 5000
    if (kind === 2) return [true, null, 1e308, -0.5][next(4)]
    if (kind === 3) return words[next(words.length)]
    if (kind === 4) return String.fromCharCode(...Array.from({ length: next(40) }, () => next(65_536)))
    if (kind === 5) return Array.from({ length: next(4) }, () => value(depth + 1))
    return JSON.parse(
      `{${Array.from({ length: next(6) }, () => `"${words[next(words.length)]}":${JSON.stringify(value(depth + 1))}`).join(',')}}`,
    )
  }
  for (let made = 0; made < count; made++) yield value(0)
}

t.test(
  'classify never throws and always answers in the shape of the contract, whatever JSON it is given',
  async (t) => {
    const wrong: unknown[] = []
    for (const error of jsonValues(5000)) {
      const found = classify(error)
      if (!classificationSchema.strict().safeParse(found).success) wrong.push({ error, found })
    }
    t.same(wrong, [])
  },
)

t.test('the body of classify needs an error, takes any JSON as one, and refuses what it does not know', async (t) => {
  const ok = (body: unknown) => classifyBodySchema.safeParse(body).success
  for (const error of ['x', { message: 5, own: true }, null, 7, []]) t.ok(ok({ error }), JSON.stringify(error))
  t.ok(ok({ error: 'x', exchange: 'binance', market: 'linear' }))
  t.notOk(ok({}))
  t.notOk(ok({ error: 'x', market: 'cash' }))
  t.notOk(ok({ error: 'x', exchnage: 'okx' }))
})

t.test('the lists of types and rules survive their own schemas', async (t) => {
  const stringify = (schema: z.ZodType) =>
    fastJsonStringify(z.toJSONSchema(schema) as Parameters<typeof fastJsonStringify>[0])
  const rules = { rules: classifier.rules() }
  const types = { types: classifier.types() }
  t.same(JSON.parse(stringify(rulesSchema)(rules)), rules)
  t.same(JSON.parse(stringify(typesSchema)(types)), types)
  t.same(JSON.parse(stringify(classificationSchema)(classify('x'))), classify('x'))
})
