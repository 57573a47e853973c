/** Many operations in one call: each is answered as alone, none spoils another, and one effect's keep their order. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { makeKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'

const url = '/api/v1/effects/batch'
const unknown = `order_placement.${'0a'.repeat(32)}`

type Operation = { op: string; [member: string]: unknown }
type Result = { status: number; body: Record<string, unknown> }

const batchOf = (app: Pick<TestApp, 'call'>, headers: Record<string, string> = {}) => ({
  send: (body: unknown) => app.call('POST', url, body, headers),
  async run(operations: unknown[]): Promise<Result[]> {
    const { status, body } = await app.call('POST', url, { operations }, headers)
    t.equal(status, 200)
    return body.results
  },
})

/** An answer without what differs from one effect or moment to the next. */
function comparable(body: unknown): unknown {
  const text = JSON.stringify(body, (key, value: unknown) => {
    if (key === 'request_id' || key === 'reference' || key === 'effect_id') return typeof value
    if (key === 'fencing_token' || key === 'lease_remaining_seconds') return typeof value
    return /_at$|^at$|^not_before$/.test(key) && value !== null ? 'instant' : value
  })
  return JSON.parse(text)
}

/** What is done to four effects, one after the other; `held` is what the claim of the effect granted. */
const script: [effect: number, op: string, body: (held: Record<string, unknown>) => Record<string, unknown>][] = [
  [0, 'claim', () => ({ owner: 'a', claim_id: 'same', metadata: { k: 'v' }, payload: [1] })],
  [0, 'claim', () => ({ owner: 'a', claim_id: 'same' })],
  [0, 'claim', () => ({ owner: 'b' })],
  [0, 'claim', () => ({ owner: 'b', payload: [2] })],
  [0, 'claim', () => ({ owner: '' })],
  [0, 'claim', () => ({ owner: 'b', on_lease_expiry: 'reclaim' })],
  [0, 'renew', (held) => ({ ...held, lease_seconds: 60 })],
  [0, 'complete', (held) => ({ ...held, result: { b: 1, a: [1.5] } })],
  [0, 'complete', (held) => ({ ...held, result: { a: [1.5], b: 1 } })],
  [0, 'complete', (held) => ({ ...held, result: 2 })],
  [0, 'release', (held) => held],
  [0, 'claim', () => ({ owner: 'c' })],
  [1, 'claim', () => ({ owner: 'a' })],
  [1, 'release', (held) => ({ ...held, reason: 'unused' })],
  [1, 'release', (held) => held],
  [1, 'renew', (held) => held],
  [2, 'claim', () => ({ owner: 'a', job_type: 'orders' })],
  [2, 'fail', (held) => ({ ...held, ...passing })],
  [2, 'fail', (held) => ({ ...held, ...passing })],
  [2, 'fail', (held) => ({ ...held, ...rejected })],
  [2, 'fail', (held) => held],
  [3, 'claim', () => ({ owner: 'a', result: [] })],
  [3, 'complete', () => ({ effect_id: unknown, fencing_token: 1 })],
  [3, 'complete', () => ({ effect_id: unknown, fencing_token: Number.MAX_SAFE_INTEGER })],
  [3, 'complete', () => ({ fencing_tokn: 1 })],
]

/** The answers of the script, each step given to `act`. */
async function perform(act: (op: string, body: object) => Promise<Result>): Promise<unknown[]> {
  const effects = [newEffect(), newEffect(), newEffect(), newEffect()]
  const held = new Map<number, Record<string, unknown>>()
  const answers: unknown[] = []
  for (const [effect, op, members] of script) {
    const sent = members(held.get(effect) ?? {})
    const name = 'effect_id' in sent ? {} : effects[effect]
    const { status, body } = await act(op, { ...name, ...sent })
    const { effect_id, fencing_token } = body
    if (status === 201) held.set(effect, { effect_id, fencing_token })
    answers.push([op, status, comparable(body)])
  }
  return answers
}

t.test('each operation is answered as the single call is', async (t) => {
  const app = await startApp(t)
  const { run } = batchOf(app)
  const alone = await perform((op, body) => app.call('POST', `/api/v1/effects/${op}`, body))
  const batched = await perform(async (op, body) => (await run([{ op, ...body }]))[0]!)
  t.equal(alone.length, script.length)
  alone.forEach((answer, index) => t.same(batched[index], answer, JSON.stringify(script[index]!.slice(0, 2))))
})

t.test(
  'resolve names the effect in its body; a worker needs evidence, an uncertain effect and its token',
  async (t) => {
    const namespace = randomNamespace()
    const [worker, operator] = [makeKey('worker', namespace), makeKey('operator', namespace)]
    const app = await startApp(t, { config: JSON.stringify({ auth: { keys: [worker.entry, operator.entry] } }) })
    const { hold, fail } = effectCalls(app, worker.headers)
    const { effect_id, fencing_token, held } = await hold(newEffect())
    const resolve = { op: 'resolve', effect_id, fencing_token, resolution: 'executed', reason: 'seen', result: 1 }
    const evidence = { evidence: 'x' }
    const asWorker = batchOf(app, worker.headers)
    const [bare, early, nameless] = await asWorker.run([
      resolve,
      { ...resolve, ...evidence },
      { ...resolve, effect_id: 1 },
    ])
    t.match(bare, { status: 400, body: { errors: [{ pointer: '/evidence' }] } })
    t.match(early, { status: 409, body: { code: 'effect-in-progress' } })
    t.match(nameless, { status: 400, body: { errors: [{ pointer: '/effect_id' }] } })
    await fail({ ...held, error: 'x', execution: 'unknown' })
    const [settled, again] = await asWorker.run([
      { ...resolve, ...evidence },
      { ...resolve, ...evidence },
    ])
    t.match(settled, { status: 200, body: { state: 'completed', result: 1 } })
    t.match(again, { status: 200, body: { state: 'completed', replayed: true } })
    const other = await hold(newEffect())
    const abandon = {
      op: 'resolve',
      effect_id: other.effect_id,
      resolution: 'abandoned',
      reason: 'a test',
      user: 'eve',
    }
    const [done] = await batchOf(app, operator.headers).run([abandon])
    t.match(done, { status: 200, body: { state: 'failed', history: [{ step: 'resolved', by: 'operator' }] } })
  },
)

t.test('operations on one effect run in the order given, however each names it, and are never merged', async (t) => {
  const app = await startApp(t)
  const { run } = batchOf(app)
  const { claim } = effectCalls(app)
  const [one, two] = [newEffect(), { type: 'order_placement', entity: { b: 1, a: randomUUID() } }]
  const first = await claim({ ...one, owner: 'a', claim_id: 'k' })
  const { effect_id, fencing_token } = first.body
  const results = await run([
    { op: 'claim', ...one, owner: 'late' },
    { op: 'claim', ...two, owner: 'x', claim_id: 'x' },
    { op: 'complete', effect_id, fencing_token, result: 'one' },
    { op: 'claim', ...two, entity: { a: two.entity.a, b: 1.0 }, owner: 'y' },
    { op: 'claim', ...one, owner: 'late' },
    { op: 'claim', effect_id, owner: 'late' },
    { op: 'claim', ...two, owner: 'x', claim_id: 'x' },
  ])
  const told = results.map(({ status, body }) => [status, body['outcome'], body['replayed'] ?? false])
  t.same(told, [
    [409, 'in_progress', false],
    [201, 'claimed', false],
    [200, 'completed', false],
    [409, 'in_progress', false],
    [200, 'completed', true],
    [200, 'completed', true],
    [201, 'claimed', true],
  ])
})

t.test('of many claims on one effect the first is granted', async (t) => {
  const { run } = batchOf(await startApp(t))
  const effect = newEffect()
  const claims = Array.from({ length: 50 }, (_, index) => ({ op: 'claim', ...effect, owner: `bot-${index}` }))
  const results = await run(claims)
  t.equal(results[0]!.status, 201)
  const others = new Set(results.slice(1).map(({ status, body }) => `${status} ${String(body['owner'])}`))
  t.same([...others], ['409 bot-0'])
})

t.test('one bad operation does not spoil the others', async (t) => {
  const app = await startApp(t)
  const good = () => JSON.stringify({ op: 'claim', ...newEffect(), owner: 'o' })
  const claim = '"op":"claim","type":"a","owner":"o"'
  const bad: [text: string, code: string, pointer: string][] = [
    ['{}', 'invalid-request', '/op'],
    ['{"op":"clame"}', 'invalid-request', '/op'],
    ['{"op":"toString"}', 'invalid-request', '/op'],
    ['{"op":["claim"]}', 'invalid-request', '/op'],
    ['null', 'invalid-request', ''],
    ['"claim"', 'invalid-request', ''],
    ['[]', 'invalid-request', ''],
    ['1e400', 'invalid-request', ''],
    [`{${claim}}`, 'invalid-request', '/entity'],
    [`{${claim},"entity":"e","wait_seconds":1,"claim_id":"c"}`, 'invalid-request', '/wait_seconds'],
    [`{${claim},"entity":"e","entity":"f"}`, 'invalid-request', '/entity'],
    [`{${claim},"entity":{"a":{"b":9007199254740993}}}`, 'number-not-exact', '/entity/a/b'],
    [`{${claim},"entity":"\\ud800"}`, 'invalid-request', '/entity'],
    [`{${claim},"entity":"${'x'.repeat(1025)}"}`, 'invalid-request', '/entity'],
    [
      `{${claim},"entity":"e","payload":${'['.repeat(40)}${']'.repeat(40)}}`,
      'invalid-request',
      `/payload${'/0'.repeat(31)}`,
    ],
    [`{"op":"claim","op":"claim","type":"a"}`, 'invalid-request', '/op'],
    [`{${claim},"entity":"e","__proto__":{}}`, 'invalid-request', '/__proto__'],
  ]
  const texts = bad.flatMap(([text]) => [text, good()])
  const json = { 'content-type': 'application/json' }
  const { status, body, headers } = await app.call('POST', url, `{"operations":[${texts.join(',')}]}`, json)
  t.equal(status, 200)
  bad.forEach(([text, code, pointer], index) => {
    const [refused, granted] = body.results.slice(index * 2, index * 2 + 2)
    t.match(refused, { status: 400, body: { status: 400, code, errors: [{ pointer }] } }, text)
    t.equal(refused.body.request_id, headers['x-request-id'])
    t.equal(granted.status, 201, `beside ${text}`)
  })
})

t.test('what is no list of at most 256 operations is refused as a whole, and stores nothing', async (t) => {
  const redis = await startRedis(t)
  const { send } = batchOf(await startApp(t, { redis }))
  const claims = (count: number) => Array.from({ length: count }, () => ({ op: 'claim', ...newEffect(), owner: 'o' }))
  const bad: [body: unknown, pointer: string][] = [
    [{}, '/operations'],
    [{ operations: {} }, '/operations'],
    [{ operations: null }, '/operations'],
    [{ operations: claims(257) }, '/operations'],
    [{ operations: claims(1), wait_seconds: 1 }, '/wait_seconds'],
    [claims(1), ''],
  ]
  for (const [body, pointer] of bad) {
    t.match(await send(body), { status: 400, body: { code: 'invalid-request', errors: [{ pointer }] } })
  }
  t.same(await redisCli(redis.port, 'KEYS', '*:effect:*'), [])
  t.same((await send({ operations: [] })).body, { results: [] })
  t.equal((await send({ operations: claims(256) })).body.results.length, 256)
})

t.test('the body may have 20 MiB, that of other calls 1 MiB', async (t) => {
  const { send, run } = batchOf(await startApp(t, { config: 'effects: {max_result_bytes: 1048576}' }))
  const payload = 'x'.repeat(79_000)
  const many = Array.from({ length: 256 }, () => ({ op: 'claim', ...newEffect(), owner: 'o', payload }))
  t.same(new Set((await run(many)).map(({ status }) => status)), new Set([201]))
  t.match(await send({ operations: [...many.slice(1), { payload: payload.repeat(14) }] }), {
    status: 413,
    body: { code: 'payload-too-large' },
  })
})

t.test('results keep their bytes', async (t) => {
  const app = await startApp(t)
  const json = { 'content-type': 'application/json' }
  const { hold } = effectCalls(app)
  const results = ['{"b":1.0, "a":9007199254740993}', '"\\u00e9\\ud800"', '[1e400, {"k":1,"k":2}]']
  const held = await Promise.all(results.map(() => hold(newEffect())))
  const complete = results.map((result, index) => {
    const { effect_id, fencing_token } = held[index]!
    return `{"op":"complete","effect_id":"${effect_id}","fencing_token":${fencing_token},"result":${result}}`
  })
  const claims = held.map(({ effect_id }) => `{"op":"claim","effect_id":"${effect_id}","owner":"o"}`)
  const late = complete.map((text) => text.replace('"result":', '"result":0,"was":').replace(/,"was":.*$/, '}'))
  const { text } = await app.call('POST', url, `{"operations":[${[...complete, ...claims, ...late].join(',')}]}`, json)
  for (const result of results) t.equal(text.split(`"result":${result}`).length, 3, `${result}: outcome and conflict`)
})

t.test('readers may not send a batch, and namespaces stay apart', async (t) => {
  const [mine, theirs] = [randomNamespace(), randomNamespace()]
  const keys = [makeKey('reader', mine), makeKey('worker', mine), makeKey('worker', theirs, 'other')]
  const [reader, worker, other] = keys.map(({ headers }) => headers)
  const app = await startApp(t, { config: JSON.stringify({ auth: { keys: keys.map(({ entry }) => entry) } }) })
  const operations = [{ op: 'claim', ...newEffect(), owner: 'o' }]
  t.match(await app.call('POST', url, { operations }, reader), { status: 403, body: { code: 'forbidden' } })
  t.match(await app.call('POST', url, { operations }), { status: 401 })
  for (const headers of [worker, other]) t.equal((await batchOf(app, headers).run(operations))[0]?.status, 201)
  t.equal((await batchOf(app, worker).run(operations))[0]?.status, 409)
})

t.test('a batch waits for nothing: beside a dead Redis every operation is told so in time', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis })
  const { run } = batchOf(app)
  const effect = newEffect()
  const claims = (count: number): Operation[] =>
    Array.from({ length: count }, () => ({ op: 'claim', ...effect, owner: 'o' }))
  await run(claims(1))
  await redis.kill('SIGSTOP')
  const startMs = performance.now()
  const results = await run([...claims(20), { op: 'claim' }, { op: 'claim', ...newEffect(), owner: 'o' }])
  const tookMs = performance.now() - startMs
  await redis.kill('SIGCONT')
  t.ok(tookMs < 3000, `${Math.round(tookMs)} ms`)
  const reasons = results.map(({ status, body }) => `${status} ${String(body['reason'])}`)
  t.same(reasons.slice(-2), ['400 undefined', '503 outcome_unknown'])
  t.equal(reasons[0], '503 outcome_unknown')
  t.same(new Set(reasons.slice(1, 20)), new Set(['503 busy']), 'what has not begun says so')
  for (const { body } of results.slice(0, 20)) t.ok(Number(body['retry_after_seconds']) > 0)
})

t.test('what a lost connection leaves open is told, and the same batch again settles it', async (t) => {
  const redis = await startRedis(t)
  const { run } = batchOf(await startApp(t, { redis }))
  const batch = () =>
    Array.from({ length: 50 }, () => ({ op: 'claim', ...newEffect(), owner: 'o', claim_id: randomUUID() }))
  const batches = Array.from({ length: 20 }, batch)
  const answers = batches.map(run)
  await redisCli(redis.port, 'CLIENT', 'KILL', 'TYPE', 'normal')
  const statuses = new Set((await Promise.all(answers)).flat().map(({ status }) => status))
  t.same(
    [...statuses].filter((status) => status !== 201 && status !== 503),
    [],
  )
  for (const operations of batches) {
    const settled = async () => (await run(operations)).every(({ status }) => status === 201)
    t.ok(await waitFor(settled))
  }
})
