import { readFileSync } from 'node:fs'
import t from 'tap'
import { createClassifier } from '../../src/failures/classify.ts'
import { failureTypeNames, failureTypes, type Market, markets, type Rule } from '../../src/failures/rule.ts'
import { rules } from '../../src/failures/rules/index.ts'

const nowMs = 1_700_000_000_000
const classifier = createClassifier({ rules: [], default_exchange: 'binance' })

const statusOf = (wanted: Rule['http_status']): number | undefined =>
  wanted === null || wanted === 'none' ? undefined : wanted === '4xx' ? 498 : wanted === '5xx' ? 598 : wanted

/** An error that is just what the rule describes, and no more. */
const sampleOf = (rule: Rule): Record<string, unknown> => ({
  message: rule.example ?? '',
  code: rule.code === 'any' ? -999_999 : rule.code,
  http_status: statusOf(rule.http_status),
  exchange: rule.exchange ?? 'an-exchange-without-a-table',
  market: rule.market,
})

t.test('every rule is reached by its own sample, so none is shadowed by an earlier one', async (t) => {
  const missed = rules
    .map((rule) => [rule, classifier.classify(sampleOf(rule), { nowMs })] as const)
    .filter(([rule, found]) => found.rule !== rule.id || found.execution !== rule.execution)
    .map(([rule, found]) => `${rule.id} is shadowed by ${found.rule}`)
  t.same(missed, [])
  t.ok(rules.length > 800, `${rules.length} rules`)
})

t.test('every id is unique, every row has a source, every pattern an example', async (t) => {
  const ids = rules.map((rule) => rule.id)
  t.equal(new Set(ids).size, ids.length)
  t.same(
    rules.filter((rule) => rule.source.length < 10 || rule.meaning === '').map((rule) => rule.id),
    [],
  )
  t.same(
    rules.filter((rule) => (rule.pattern === null) !== (rule.example === null)).map((rule) => rule.id),
    [],
  )
  t.same(
    rules.filter((rule) => rule.pattern?.global || rule.pattern?.sticky).map((rule) => rule.id),
    [],
    'a pattern keeps no state between errors',
  )
})

t.test('a rule claims execution "yes" for DUPLICATE only, and no retryable rule claims it', async (t) => {
  const wrong = rules.filter((rule) => (rule.execution === 'yes') !== (rule.failure_type === 'DUPLICATE'))
  t.same(
    wrong.map((rule) => rule.id),
    [],
  )
})

/** The numbers in the error pages of each product, without their minus sign; `+` marks those that have none. */
const listed: Record<Market, string> = {
  spot: '1000-1003 1006-1008 1010 1013-1016 1020-1022 1033-1035 1100-1106 1108 1111-1112 1114-1122 1125 1127-1128 1130 1134-1135 1139 1145 1151-1153 1155 1158 1160-1161 1165-1166 1168-1191 1194 1196-1199 1210-1211 1220-1225 2010-2011 2013-2016 2021-2022 2026 2035-2036 2038-2039 2042-2043',
  linear:
    '1000-1008 1010 1011 1013-1016 1020-1023 1099-1106 1108-1122 1125-1128 1130 1136 2010-2028 4000-4033 4044-4088 4104 4109 4114-4118 4120 4131 4135 4137-4142 4144 4161 4164 4165 4167-4172 4183 4184 4192 4202 4203 4205 4206 4208-4211 4400-4403 5021 5022 5024-5029 5037-5041 5043',
  inverse:
    '1000-1008 1010 1011 1013-1016 1020-1023 1100-1106 1108-1121 1125 1127 1128 1130 1136 2010 2011 2013-2016 2018-2028 4000-4033 4044-4062 4067 4068 4082-4084 4086-4090 4104 4110-4113 4135 4137-4139 4142 4150-4152 4154 4155 4178 4188 4192 4194-4202',
  option:
    '1000-1002 1008 1014-1016 1020-1022 1100-1106 1111 1115-1121 1125 1127-1131 2010 2013-2015 2018 2027 3029 4001-4005 4013 4029 4030 4055 4056 4078 5001-5010 6001-6063',
  portfolio_margin:
    '1000-1008 1010 1011 1013-1016 1020-1023 1100-1106 1108-1121 1125 1127 1128 1130 1136 2010 2011 2013-2016 2018-2028 4000-4033 4044-4088 4104 4114 4115 4118 4131 4135 4137-4142 4144 4161 4164 4165 4183 4184 4220 4405 4407 4415 4517-4519 5021 5022 5028 5041 +51006 +51007 +51014 +51061 +51068 +51078 +51113 +51122 +51998 +51999',
}

/** Codes that the contract names for every market, where a product's own page leaves them out. */
const beyondList: Partial<Record<Market, string>> = { option: '1003 1006 1007 1013' }

const codesOf = (ranges: string): number[] =>
  ranges.split(' ').flatMap((range) => {
    if (range.startsWith('+')) return [Number(range)]
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, index) => -(first + index))
  })

for (const market of markets) {
  t.test(`every code that Binance lists for ${market} has a rule of its own`, async (t) => {
    const codes = rules.filter((rule) => rule.market === market && rule.code !== null).map((rule) => rule.code)
    const known = [listed[market], beyondList[market]].filter((ranges) => ranges !== undefined)
    t.same([...new Set(codes)].sort(), known.flatMap(codesOf).sort())
  })
}

t.test('no built-in pattern takes long on a hostile message of the greatest length', async (t) => {
  const parts = ['a', ' ', '-1', '"code":', 'read tcp ', 'timeout', 'status ', 'connect ', 'GET https://x ', '\\"', '[']
  const starts = ['status', 'retry-after', 'HTTP', 'code', '"code"', 'Error', 'banned until', 'read tcp ', 'x 4xx ']
  const hostile = [...parts, ...starts.map((start) => `${start}${' '.repeat(1990)}`)].map((part) =>
    part.repeat(2000 / part.length),
  )
  for (const message of hostile) {
    const begun = process.hrtime.bigint()
    classifier.classify(message, { nowMs })
    const spentMs = Number(process.hrtime.bigint() - begun) / 1e6
    t.ok(spentMs < 1000, `${message.slice(0, 8)}: ${spentMs.toFixed(1)} ms`)
  }
})

const word = (value: boolean) => (value ? 'yes' : 'no')

t.test('the table of types in docs/failures.md says what the code says', async (t) => {
  const docs = readFileSync(new URL('../../docs/failures.md', import.meta.url), 'utf8')
  const rows = docs
    .split('\n')
    .map((line) => line.replace(/ +/g, ' '))
    .filter((line) => /^\| `[A-Z_]+` \|/.test(line))
  const expected = failureTypeNames.map((name) => {
    const type = failureTypes[name]
    return `| \`${name}\` | ${word(type.retryable)} | \`${type.execution}\` | ${word(type.counts_for_breaker)} | \`${type.scope}\` |`
  })
  t.same(rows, expected)
})

t.test('the types retryable, in doubt and counting are those of the contract', async (t) => {
  const names = (test: (type: (typeof failureTypes)[keyof typeof failureTypes]) => boolean) =>
    failureTypeNames.filter((name) => test(failureTypes[name]))
  t.same(
    names((type) => type.retryable),
    ['NETWORK_ERROR', 'TIMEOUT', 'RATE_LIMIT', 'TEMPORARY_ERROR', 'SERVICE_UNAVAILABLE'],
  )
  t.same(
    names((type) => type.execution === 'unknown'),
    ['NETWORK_ERROR', 'TIMEOUT', 'TEMPORARY_ERROR', 'SERVICE_UNAVAILABLE', 'UNKNOWN'],
  )
  t.same(
    names((type) => type.execution === 'yes'),
    ['DUPLICATE'],
  )
  t.same(
    names((type) => type.counts_for_breaker),
    ['NETWORK_ERROR', 'TIMEOUT', 'RATE_LIMIT', 'TEMPORARY_ERROR', 'SERVICE_UNAVAILABLE', 'EXCHANGE_BAN', 'UNKNOWN'],
  )
})
