import t from 'tap'
import { failureTypeNames } from '../../src/failures/rule.ts'
import { startRetryApp } from '../helpers/retries.ts'

type Reply = { status: number; body: unknown }

interface Listed {
  types: { failure_type: string; retryable: boolean }[]
  rules: { rule: string; source: string; failure_type: string; execution: string }[]
}

t.test('an error is classified with all that follows from it', async (t) => {
  const { callAs } = await startRetryApp(t)
  const { status, body }: Reply = await callAs('reader', 'POST', '/failures/classify', {
    error: 'BinanceAPIException: -1003 TOO_MANY_REQUESTS',
  })
  t.equal(status, 200)
  t.same(body, {
    ...{ failure_type: 'RATE_LIMIT', retryable: true, execution: 'no', counts_for_breaker: true, scope: 'ip' },
    ...{ code: -1003, exchange: 'binance', market: 'spot', rule: 'binance.spot.-1003', retry_after_seconds: null },
  })
})

t.test('exchange and market of the call win over those of the error', async (t) => {
  const { call } = await startRetryApp(t)
  const classify = async (body: object) =>
    (await call('POST', '/failures/classify', body)).body as Record<string, unknown>
  const error = { code: -4088, exchange: 'binance', market: 'linear' }
  const linear = await classify({ error })
  const inverse = await classify({ error, market: 'inverse' })
  t.match([linear.market, inverse.market], ['linear', 'inverse'])
  t.not(linear.failure_type, inverse.failure_type, 'the same code means different things')
  t.match(await classify({ error, exchange: 'okx' }), { exchange: 'okx', failure_type: 'UNKNOWN' })
})

t.test('a ban that names its end says how long it lasts', async (t) => {
  const { call } = await startRetryApp(t)
  const error = `Way too many requests; IP banned until ${Date.now() + 90_000}.`
  const { body }: Pick<Reply, 'body'> = await call('POST', '/failures/classify', {
    error: { message: error, code: -1003, http_status: 418 },
  })
  const { retry_after_seconds } = body as { retry_after_seconds: number }
  t.match(body, { failure_type: 'EXCHANGE_BAN', retryable: false })
  t.ok(retry_after_seconds > 80 && retry_after_seconds <= 90, `${retry_after_seconds} s`)
})

t.test('any JSON is an error, and what no rule knows is UNKNOWN', async (t) => {
  const { call } = await startRetryApp(t)
  for (const error of [null, 7, [], {}, '', 'something odd', { message: { deep: [1] } }]) {
    const { status, body }: Reply = await call('POST', '/failures/classify', { error })
    t.match([status, body], [200, { failure_type: 'UNKNOWN', retryable: false, execution: 'unknown' }])
  }
})

t.test('rules of the deployment are tried and listed first', async (t) => {
  const config = 'failures: {rules: [{exchange: binance, code: -1003, failure_type: SERVICE_UNAVAILABLE}]}'
  const { call } = await startRetryApp(t, { config })
  const { body }: Pick<Reply, 'body'> = await call('POST', '/failures/classify', { error: { code: -1003 } })
  t.match(body, { failure_type: 'SERVICE_UNAVAILABLE', rule: 'configured.1' })
  const { rules } = (await call('GET', '/failures/rules')).body as Listed
  t.match(rules[0], { rule: 'configured.1', source: /configuration/ })
})

t.test('the tables are listed whole, each rule with its id and source', async (t) => {
  const { callAs } = await startRetryApp(t)
  const { types } = (await callAs('reader', 'GET', '/failures/types')).body as Listed
  t.same(types.map(({ failure_type }) => failure_type), failureTypeNames) // prettier-ignore
  const { rules } = (await callAs('reader', 'GET', '/failures/rules')).body as Listed
  t.ok(rules.length > 400, `${rules.length} rules`)
  t.equal(new Set(rules.map(({ rule }) => rule)).size, rules.length, 'no id twice')
  t.ok(rules.every(({ source }) => source !== ''))
  t.ok(rules.every(({ failure_type }) => failureTypeNames.includes(failure_type as 'UNKNOWN')))
})

t.test('a call that is not valid is refused and names the place', async (t) => {
  const { call } = await startRetryApp(t)
  const pointerOf = async (body: object) =>
    ((await call('POST', '/failures/classify', body)).body as { errors: [{ pointer: string }] }).errors[0].pointer
  t.equal(await pointerOf({}), '/error')
  t.equal(await pointerOf({ error: 'x', market: 'futures' }), '/market')
  t.equal(await pointerOf({ error: 'x', exchange: '' }), '/exchange')
  t.equal(await pointerOf({ error: 'x', venue: 'binance' }), '/venue')
})
