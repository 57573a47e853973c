import canonicalize from 'canonicalize'
import fastJson from 'fast-json-stringify'
import t from 'tap'
import {
  isExactNumber,
  isJsonObject,
  parseStrict,
  RawJson,
  readJson,
  sameJsonValue,
  stringifyWithRaw,
} from '../../src/json.ts'
import { limits } from '../../src/limits.ts'
import { Problem } from '../../src/problems.ts'

type Refusal = { slug: string; pointer: string | undefined }

const read = (text: string): unknown => readJson(Buffer.from(text))

function asRefusal(problem: unknown): Refusal {
  if (!(problem instanceof Problem)) throw problem
  const errors = problem.members['errors'] as { pointer: string }[] | undefined
  return { slug: problem.slug, pointer: errors?.[0]?.pointer }
}

/** What `act` refuses, or undefined if it does not. */
function refusal(act: () => unknown): Refusal | undefined {
  try {
    act()
  } catch (problem) {
    return asRefusal(problem)
  }
  return undefined
}

const invalid = (pointer: string): Refusal => ({ slug: 'invalid-request', pointer })
const inexact = (pointer: string): Refusal => ({ slug: 'number-not-exact', pointer })
const notJson: Refusal = { slug: 'invalid-json', pointer: undefined }

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)

/** A seeded generator (mulberry32): the same numbers in every run. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

t.test('a body that is not UTF-8 JSON is refused as such', async (t) => {
  t.same(
    refusal(() => readJson(Buffer.from([0x22, 0xff, 0x22]))),
    notJson,
    'a byte that is no UTF-8',
  )
  t.same(
    refusal(() => readJson(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]))),
    notJson,
    'a raw surrogate',
  )
  for (const text of ['', ' ', '{', '{"a":1,}', "{'a':1}", 'NaN', '01', '{"a":1} x', '"\t"', '\u00a0{}', '{"a":+1}'])
    t.same(
      refusal(() => read(text)),
      notJson,
      JSON.stringify(text),
    )
  t.throws(() => read('\ufeff{}'), { slug: 'invalid-json', message: /byte order mark/ })
  t.throws(() => read('{"a" 1}'), { slug: 'invalid-json', message: /position 5|column/ })
})

t.test('what is not an object is left to validation', async (t) => {
  t.same(read('[1e400, {"a":1,"a":2}]'), [Infinity, { a: 2 }])
  t.equal(read(' null '), null)
  t.equal(read('"\\ud800"'), '\ud800')
})

t.test('an accepted body has the value that JSON.parse gives', async (t) => {
  const text = ' {"a" : [1, {"b":"\\u00e9\\n"} , [ ], { } ,"x"], "__proto__":{"c":null},"d":true, "e":-0.5e-3 }\r\n'
  t.same(read(text), JSON.parse(text))
  t.ok(Object.hasOwn(read(text) as object, '__proto__'), '__proto__ is a member like any other')
})

t.test('nesting of 32 levels is taken, of 33 refused with its place', async (t) => {
  t.equal(limits.jsonDepthMax, 32)
  t.equal(
    refusal(() => read(`{"payload":${nested(31)}}`)),
    undefined,
  )
  t.same(
    refusal(() => read(`{"payload":${nested(32)}}`)),
    invalid('/payload' + '/0'.repeat(31)),
  )
  t.same(
    refusal(() => read(`{"payload":${'{"a":'.repeat(32)}1${'}'.repeat(32)}}`)),
    invalid('/payload' + '/a'.repeat(31)),
  )
  t.equal(
    refusal(() => read(`{"payload":[${'[],{},'.repeat(50)}0]}`)),
    undefined,
    'siblings are not levels',
  )
})

t.test('a duplicate member is refused, however it is spelled', async (t) => {
  const cases: [string, string][] = [
    ['{"a":1,"a":1}', '/a'],
    ['{"a":1,"\\u0061":2}', '/a'],
    ['{"x/y~":1,"x\\/y~":2}', '/x~1y~0'],
    ['{"":1,"":2}', '/'],
    ['{"entity":{"list":[0,{"k":"A" , "k":"B"}]}}', '/entity/list/1/k'],
    ['{"__proto__":1,"__proto__":2}', '/__proto__'],
    ['{"\\ud83d\\ude02":1,"😂":2}', '/😂'],
    ['{"result":1,"result":2}', '/result'],
    ['{"a":{},"b":[{}],"a":0}', '/a'],
    ['{"fencing_token":1,"result":{"x":[1,2]},"fencing_token":2}', '/fencing_token'],
  ]
  for (const [text, pointer] of cases)
    t.same(
      refusal(() => read(text)),
      invalid(pointer),
      text,
    )
  const fine = ['{"a":{"a":{"a":1}},"b":{"a":1}}', '{"a":"a","A":"a"}', '{"é":1,"e\\u0301":2}', '[{"a":1},{"a":1}]']
  for (const text of fine)
    t.equal(
      refusal(() => read(text)),
      undefined,
      text,
    )
})

t.test('a lone surrogate is refused with its place, a pair is not', async (t) => {
  const cases: [string, string][] = [
    ['{"entity":"\\ud800"}', '/entity'],
    ['{"entity":"a\\uDFFFb"}', '/entity'],
    ['{"entity":["x","\\ude02\\ud83d"]}', '/entity/1'],
    ['{"entity":{"k":"\\\\\\ud83d"}}', '/entity/k'],
    ['{"entity":{"\\ud83d":1}}', '/entity'],
    ['{"\\ud83dx":1}', ''],
  ]
  for (const [text, pointer] of cases)
    t.same(
      refusal(() => read(text)),
      invalid(pointer),
      text,
    )
  for (const text of ['{"e":"\\ud83d\\ude02"}', '{"e":"\\\\ud83d"}', '{"e":"😂\\n"}', '{"e":"\\ufffd"}'])
    t.equal(
      refusal(() => read(text)),
      undefined,
      text,
    )
})

t.test('a number is taken only if it can be kept exactly', async (t) => {
  const exact =
    '0 -0 0.0 0e5 -0.000e-999999 0e99999999999999999999 1 0.1 0.10 50000.0 1e3 1E+3 1e-7 123456789012345 0.00000000000001 ' +
    '9007199254740991 9007199254740992 9007199254740994 295147905179352830000 1e21 1e23 1.0e+0023 5e-324 ' +
    '1.7976931348623157e308 17976931348623157e292 2.2250738585072014E-308 333333333.3333333 1424953923781206.2 ' +
    '0.000000000000000000000000001 100000000000000000000000000000000 1000000000000000000000000e-24'
  const lossy =
    '9007199254740993 -9007199254740993 0.1000000000000000055511151231257827 1e400 -1e400 1e-400 3e-324 1.8e308 ' +
    '4.9e-324 333333333.33333329 295147905179352825856 12345678901234567890 0.30000000000000001 2e-324 ' +
    '1e-99999999999999999999 1.00000000000000000000000000000000000000000000000001'
  for (const text of exact.split(' ')) t.ok(isExactNumber(text), `${text} is exact`)
  for (const text of lossy.split(' ')) t.notOk(isExactNumber(text), `${text} is not`)
  t.same(
    refusal(() => read('{"entity":{"n":[1, 9007199254740993 ]}}')),
    inexact('/entity/n/1'),
  )
  t.same(
    refusal(() => read('{"n":1e400}')),
    inexact('/n'),
  )
  t.same(
    refusal(() => parseStrict(' -1e-400 ')),
    inexact(''),
  )
})

t.test('exactness is judged in linear time', async (t) => {
  const zeros = '0'.repeat(1_000_000)
  t.ok(isExactNumber(`1${zeros}e-1000000`))
  t.ok(isExactNumber(`0.${zeros}1e1000001`))
  t.notOk(isExactNumber(`1${zeros}1e-1000001`))
  t.notOk(isExactNumber(`0.${zeros}1`))
})

t.test('every double that is printed shortest is exact in any spelling, and one digit more is not', async (t) => {
  const next = random(1)
  const view = new DataView(new ArrayBuffer(8))
  let seen = 0
  while (seen < 20_000) {
    view.setUint32(0, next(2 ** 32))
    view.setUint32(4, next(2 ** 32))
    const double = view.getFloat64(0)
    if (!Number.isFinite(double)) continue
    seen++
    const [digits = '', power = ''] = double.toExponential().split('e')
    const spellings = [
      String(double),
      double.toExponential().toUpperCase(),
      `${digits}${digits.includes('.') ? '' : '.'}000e${power}`,
    ]
    const longer = `${digits}${digits.includes('.') ? '' : '.'}${'0'.repeat(25)}1e${power}`
    if (!spellings.every(isExactNumber) || isExactNumber(longer)) return t.fail(`${spellings.join(' ')} ${longer}`)
  }
  t.equal(seen, 20_000)
})

t.test('a result, evidence or error need only be JSON, and the first two keep their bytes', async (t) => {
  const awkward = '{"k":"A", "k":"B","n":9007199254740993,"s":"\\ud800","r":[ 1.50 ,1e400],"q":"\\"}],"}'
  const body = read(`{"a":1,"result" : ${awkward} ,"evidence":\n-1E400\t,"error":${awkward},"b":"x"}`)
  if (!isJsonObject(body)) return t.fail('an object')
  t.same(body['result'], new RawJson(awkward))
  t.same(body['evidence'], new RawJson('-1E400'))
  t.same(body['error'], JSON.parse(awkward))
  t.same([body['a'], body['b'], Object.keys(body)], [1, 'x', ['a', 'result', 'evidence', 'error', 'b']])
  t.same(
    read('{"\\u0072esult":"a\\u0062"}'),
    { result: new RawJson('"a\\u0062"') },
    'a name may be spelled with escapes',
  )
  for (const text of ['null', 'true', '0', '""', '"\\\\"', '"\\\\\\""', '[]', '{}', '[[],{"]":"}"}]', '-0.0'])
    t.same(read(`{"result":${text}}`), { result: new RawJson(text) }, text)
})

t.test('what is not an outcome of the body itself has no privilege', async (t) => {
  t.same(
    refusal(() => read('{"entity":{"result":9007199254740993}}')),
    inexact('/entity/result'),
  )
  t.same(
    refusal(() => read('{"payload":[{"error":"\\ud800"}]}')),
    invalid('/payload/0/error'),
  )
  t.same(
    refusal(() => read('{"result":{"x":1},"entity":1e400}')),
    inexact('/entity'),
    'after an outcome the rules hold again',
  )
  t.same(
    refusal(() => read('{"operations":{"result":1e400}}')),
    inexact('/operations/result'),
  )
  t.same(
    refusal(() => parseStrict('{"result":1e400}')),
    inexact('/result'),
  )
  t.same(read('{"entity":{"result":{"a":1}}}'), { entity: { result: { a: 1 } } })
})

t.test('a result of half a million levels is kept without a stack overflow', async (t) => {
  const text = nested(500_000)
  t.same(read(`{"result":${text}}`), { result: new RawJson(text) })
  t.ok(isJsonObject(read(`{"error":${text}}`)))
  t.same(
    refusal(() => read(`{"payload":${text}}`)),
    invalid('/payload' + '/0'.repeat(31)),
  )
})

t.test('each operation of a batch is read like a body of its own', async (t) => {
  const bad = [
    '{"op":"claim","entity":{"n":9007199254740993}, "result":[1]}',
    '{"op":"claim","entity":{"k":1,"k":2}}',
    '{"op":"claim","entity":"\\ud800"}',
    `{"op":"claim","payload":${nested(32)}}`,
  ]
  const good = [
    '{"op":"complete","result": {"k":1,"k":2.50} }',
    `{"op":"claim","payload":${nested(31)},"error":1e400}`,
    '{"operations":[{"result":[]}]}',
    '17',
    '{}',
  ]
  const body = read(`{"operations" : [ ${good[0]} ,${bad.join('\n, ')},${good.slice(1).join(',')} ], "x":1}`)
  const operations = isJsonObject(body) && body['operations']
  if (!Array.isArray(operations)) return t.fail('operations')
  t.same(operations[0], { op: 'complete', result: new RawJson('{"k":1,"k":2.50}') })
  t.same(operations.slice(1, 5).map(asRefusal), [
    inexact('/entity/n'),
    invalid('/entity/k'),
    invalid('/entity'),
    invalid('/payload' + '/0'.repeat(31)),
  ])
  t.same(
    operations.slice(5),
    good.slice(1).map((text) => JSON.parse(text) as unknown),
    'no outcome deeper than an operation',
  )
  t.same(read('{"operations":[ ],"x":[]}'), { operations: [], x: [] })
})

t.test('a fault beside the operations refuses the batch', async (t) => {
  for (const operations of ['[]', '[ ]', '[{}]', '[{"a":1e400}, 3 ]', `[${'{"a":1e400},'.repeat(256)}{}]`])
    t.same(
      refusal(() => read(`{"operations":${operations} ,"x":[1e400]}`)),
      inexact('/x/0'),
    )
  t.same(
    refusal(() => read('{"operations":[{"a":1}],"operations":[{"b":1}]}')),
    invalid('/operations'),
  )
})

t.test('operations that are there twice refuse the batch, whatever their numbers and kinds', async (t) => {
  const lists = ['[]', '[1]', '[{"a":1}]', '[{},{},{}]', '[ {"a":1e400} ,[{}], "x"]', '0', '{"a":[]}', 'null']
  for (const first of lists) {
    for (const last of lists) {
      const found = refusal(() => read(`{"operations":${first},"operations" : ${last}}`))
      t.match(found?.pointer, /^\/operations/, `${first} ${last}`)
    }
  }
  const many = `[${'{"a":1e400},'.repeat(300)}{}]`
  t.same(
    refusal(() => read(`{"operations":${many},"operations":[]}`)),
    invalid('/operations'),
  )
})

t.test('more operations than a batch may have are left to validation unread', async (t) => {
  const body = read(`{"operations":[${'{"a":1e400},'.repeat(256)}{}]}`)
  const operations = isJsonObject(body) && (body['operations'] as unknown[])
  t.equal(operations && operations.length, 257)
  t.same(operations && operations[0], { a: Infinity })
})

t.test('two JSON texts are the same value if nothing makes that doubtful', async (t) => {
  const same: [string, string][] = [
    ['{"a":1,"b":[true,null]}', ' { "b" : [true , null] , "a" : 1.0 }'],
    ['"\\u00e9\\/"', '"é/"'],
    ['0', '-0'],
    ['1E3', '1000'],
    ['[[],{}]', '[ [ ], { } ]'],
    ['{"result":{"x":1}}', '{"result":{"x":1e0}}'],
    ['1e400', '1e400'],
    ['{"a":1,"a":2}', '{"a":1,"a":2}'],
    [nested(500_000), nested(500_000)],
    [nested(100), ` ${nested(100)}`],
  ]
  for (const [a, b] of same) t.ok(sameJsonValue(a, b), a.slice(0, 40))
  const different: [string, string][] = [
    ['1', '2'],
    ['1', '"1"'],
    ['[1,2]', '[2,1]'],
    ['{}', '[]'],
    ['{"a":1}', '{"a":1,"b":null}'],
    ['"é"', '"e\\u0301"'],
    ['9007199254740993', '9007199254740992'],
    ['1e400', '1e401'],
    ['1e-400', '0'],
    ['{"a":1,"a":2}', '{"a":2}'],
    ['"\\ud800"', '"\\uD800"'],
    ['{"\\ud800":1}', '{"\\uD800":1}'],
    ['{"__proto__":1}', '{}'],
    ['{"result":1e400}', '{"result":1e401}'],
    ['x', 'x '],
  ]
  for (const [a, b] of different) t.notOk(sameJsonValue(a, b), `${a} ${b}`)
  t.notOk(sameJsonValue(nested(500_000), ` ${nested(500_000)}`), 'too deep to canonicalise: only its own bytes')
})

t.test('raw JSON leaves as it came, wherever it stands', async (t) => {
  const texts = [
    '{"a": 1.50,\n"a":"\\ud800"}',
    '"\\"quoted\\\\"',
    '9007199254740993',
    '[ ]',
    '"é😂\u2028"',
    nested(200_000),
  ]
  for (const text of texts) {
    const value = {
      outcome: 'completed',
      result: new RawJson(text),
      list: [new RawJson(text), '"', { x: new RawJson(text) }],
    }
    const expected = `{"outcome":"completed","result":${text},"list":[${text},"\\"",{"x":${text}}]}`
    t.equal(stringifyWithRaw(value, JSON.stringify), expected)
    t.equal(stringifyWithRaw(new RawJson(text), JSON.stringify), text)
  }
  t.equal(stringifyWithRaw({ a: '"\\"' }, JSON.stringify), '{"a":"\\"\\\\\\""}')
})

t.test('raw JSON leaves as it came through fast-json-stringify', async (t) => {
  const stringify = fastJson({
    type: 'object',
    properties: {
      outcome: { type: 'string' },
      result: {},
      results: { type: 'array', items: { type: 'object', properties: { status: { type: 'integer' }, body: {} } } },
    },
    additionalProperties: true,
  })
  const raw = '{ "n":1.0, "s":"\\"\\u0041" }'
  const value = {
    outcome: 'completed',
    result: new RawJson(raw),
    results: [{ status: 200, body: { result: new RawJson(raw) } }],
    other: new RawJson(raw),
  }
  t.equal(
    stringifyWithRaw(value, (value) => stringify(value as object)),
    `{"outcome":"completed","result":${raw},"results":[{"status":200,"body":{"result":${raw}}}],"other":${raw}}`,
  )
})

t.test('the marker in raw JSON is not a constant that a caller could know', async (t) => {
  const marked = new RawJson('1').toJSON()
  t.match(marked, /^[0-9a-f]{32}\d+$/)
  t.equal(
    stringifyWithRaw({ a: marked.slice(1, -1), b: `x${marked}` }, JSON.stringify),
    JSON.stringify({ a: marked.slice(1, -1), b: `x${marked}` }),
  )
})

/** A random JSON text full of spaces and escapes, at most a few levels deep, whose member names are unique. */
function randomJson(next: (below: number) => number, depth = 0): string {
  const space = [' ', '', '\n', '\t\r '][next(4)]
  const characters = ['a', '\\"', '\\\\', 'é', '😂', '\\ud83d\\ude02', '\\u0000', '{', '}', '[', ']', ',', ':', '\\/']
  const string = () => `"${Array.from({ length: next(5) }, () => characters[next(characters.length)]).join('')}`
  const items = Array.from({ length: depth > 4 ? 0 : next(4) }, () => randomJson(next, depth + 1))
  const scalars = [`${string()}"`, String(next(1000) / 8), '-1.50e+2', 'true', 'false', 'null', '0']
  const members = items.map((item, index) => `${space}${string()}${index}"${space}:${item}`)
  const value = [scalars[next(scalars.length)], `[${items.join(',')}${space}]`, `{${members.join(',')}${space}}`][
    next(3)
  ]
  return `${space}${value}${space}`
}

t.test('any valid text is read as JSON.parse reads it, and its results give back their bytes', async (t) => {
  const next = random(2)
  for (let run = 0; run < 5000; run++) {
    const [first, second] = [randomJson(next), randomJson(next)]
    const operations = `{"operations":[{"payload":${first},"result":${second}},{"evidence":${second}}],"payload":${first}}`
    const value = read(operations)
    const canonical = canonicalize(JSON.parse(first))
    const out = stringifyWithRaw(value, JSON.stringify)
    const plain = JSON.stringify(JSON.parse(first))
    const raw = second.trim()
    const expected = `{"operations":[{"payload":${plain},"result":${raw}},{"evidence":${raw}}],"payload":${plain}}`
    if (out !== expected || !sameJsonValue(first, String(canonical))) return t.fail(operations)
  }
  t.pass('5,000 texts')
})

t.test('a fault put at any place of any text is found there', async (t) => {
  const next = random(3)
  const faults: [string, Refusal][] = [
    ['1e400', inexact('')],
    ['"\\udc00"', invalid('')],
    [nested(33), invalid('/0'.repeat(32))],
    ['{"k~":0,"k~":0}', invalid('/k~0')],
  ]
  for (let run = 0; run < 3000; run++) {
    const [fault = '', refused] = faults[next(faults.length)] ?? []
    const text = `[${randomJson(next)},{"x":${randomJson(next)},"a/b":[${randomJson(next)}, ${fault} ]},${randomJson(next)}]`
    const found = refusal(() => parseStrict(text, fault.startsWith('[') ? 35 : 32))
    if (found?.slug !== refused?.slug || found?.pointer !== `/1/a~1b/1${refused?.pointer}`) return t.fail(text)
  }
  t.pass('3,000 texts')
})
