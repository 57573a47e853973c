/** Breakers over a real Redis: what many processes that race may rely on. */
import t from 'tap'
import { limits } from '../../src/limits.ts'
import { Problem } from '../../src/problems.ts'
import {
  actor,
  classifier,
  type Instance,
  keys,
  moveClock,
  redis,
  startInstance,
  startInstances,
} from '../helpers/breakers.ts'
import { randomNamespace, waitFor } from '../helpers/redis-server.ts'
import { scriptCost } from '../helpers/script-cost.ts'

const job = 'order_execution'
const counting = classifier.classify({ http_status: 503, exchange: 'binance' }, { nowMs: 0 })
const harmless = classifier.classify({ code: -1013, exchange: 'binance' }, { nowMs: 0 })

type Members = { probe_id?: string; owner?: string; event_id?: string; error?: unknown }

async function fail({ breakers }: Instance, namespace: string, times: number, members: Members = {}) {
  let after = await breakers.get(namespace, job)
  for (let i = 0; i < times; i++) after = await breakers.failure(namespace, job, members)
  return after
}

const open = (instance: Instance, namespace: string) => fail(instance, namespace, 10)
const why = { reason: 'a test says so' }
const toHalfOpen = ({ breakers }: Instance, namespace: string) =>
  breakers.override(namespace, job, { action: 'half_open', ...why }, actor)
const transitions = async ({ breakers }: Instance, namespace: string) =>
  (await breakers.history(namespace, job, { limit: 500 })).history.map(({ version, to, cause }) => ({
    ...{ version, to, cause },
  }))
async function nowUs({ breakers, store }: Instance, namespace: string): Promise<number> {
  await breakers.get(namespace, job)
  return (await store.clock()).nowUs()
}
/** Failures of nobody in particular, as the script keeps them. */
const addFailures = (reports: string, count: number, atUs: number) =>
  redis('ZADD', reports, ...Array.from({ length: count }, (_, at) => [atUs, `failure ${at}`]).flat())
const named = ({ told }: Instance) => told.map(({ event }) => event)

t.test('one never seen is closed with 0, and nothing is stored of it', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  t.same(await instance.breakers.get(namespace, job), {
    ...{ job_type: job, state: 'closed', mode: 'enforce', version: 0 },
    ...{ failure_count: 0, failure_threshold: 10, time_window_seconds: 300, opened_at: null, reason: null },
    ...{ requires_override: false, last_override: null, auto_recovery_at: null, hold_until: null },
  })
  await instance.breakers.check(namespace, job, undefined)
  await instance.breakers.success(namespace, job, {})
  t.same(await redis('KEYS', `*{${namespace}}*`), [])
})

t.test('the tenth failure within the window opens, once', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  const ninth = await fail(instance, namespace, 9)
  t.match(ninth, { state: 'closed', version: 0, failure_count: 9 })
  const tenth = await fail(instance, namespace, 1)
  t.match(tenth, { state: 'open', version: 1, failure_count: 10, reason: 'failure_threshold', requires_override: true })
  t.type(tenth.opened_at, 'string')
  t.match(await instance.breakers.check(namespace, job, undefined), { allowed: false, state: 'open', reason: 'open' })
  t.same(named(instance), ['breaker.opened'])
  t.match(await redis('XLEN', keys.events(namespace)), 1)
  t.match(instance.told[0], { namespace, job_type: job, from: 'closed', to: 'open', version: 1, failure_count: 10 })
})

t.test('failures that left the window do not count, and a success does not clear it', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  await fail(instance, namespace, 9)
  t.match(await instance.breakers.success(namespace, job, {}), { state: 'closed', failure_count: 9 })
  await moveClock(301)
  t.match(await fail(instance, namespace, 1), { state: 'closed', failure_count: 1 })
})

t.test('what was counted before it was closed does not count again, even if the clock has stepped back', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  await moveClock(3)
  await fail(instance, namespace, 9)
  await moveClock(-3)
  await instance.breakers.override(namespace, job, { action: 'close', ...why }, actor)
  t.match(await instance.breakers.get(namespace, job), { state: 'closed', failure_count: 0 })
  t.match(await fail(instance, namespace, 2), { state: 'closed', failure_count: 2 }, 'and later ones do')
  t.equal((await fail(instance, namespace, 8)).state, 'open')
})

t.test('of a hundred failures from ten processes at once exactly one opens', async (t) => {
  const instances = await startInstances(t, 10)
  const namespace = randomNamespace()
  await Promise.all(
    instances.flatMap(({ breakers }) => Array.from({ length: 10 }, () => breakers.failure(namespace, job, {}))),
  )
  const [first] = instances as [Instance]
  t.match(await first.breakers.get(namespace, job), { state: 'open', version: 1, failure_count: 10 })
  t.same(await transitions(first, namespace), [{ version: 1, to: 'open', cause: 'failure_threshold' }])
  t.equal(instances.flatMap(named).length, 1, 'one process tells of it')
  t.equal(await redis('ZCARD', keys.breaker(namespace, job)[1]!), 10, 'what came after the opening is not kept')
})

t.test(
  'ten processes race through opening, recovery, probe and closing: versions rise by one, none lost or twice',
  async (t) => {
    const settings = {
      failure_threshold: 3,
      auto_recovery_seconds: 60,
      half_open_successes: 2,
      half_open_max_probes: 2,
    }
    const instances = await startInstances(t, 10, settings)
    const namespace = randomNamespace()
    const everywhere = <T>(act: (instance: Instance, at: number) => Promise<T>) => Promise.all(instances.map(act))
    const [first] = instances as [Instance]
    for (let round = 0; round < 10; round++) {
      await everywhere(({ breakers }) => breakers.failure(namespace, job, {}))
      t.match(await first.breakers.get(namespace, job), { state: 'open', version: round * 3 + 1 })
      await moveClock(60)
      const checks = await everywhere(({ breakers }, at) => breakers.check(namespace, job, `probe-${at}`))
      const probes = checks.flatMap(({ allowed, probe_id }) => (allowed ? [probe_id] : []))
      t.equal(probes.length, 2, 'two probes across all processes')
      await everywhere(({ breakers }, at) => breakers.success(namespace, job, { probe_id: probes[at % 2]! }))
      t.match(await first.breakers.get(namespace, job), { state: 'closed', version: round * 3 + 3, failure_count: 0 })
    }
    const seen = await transitions(first, namespace)
    t.same(
      seen.map(({ version }) => version),
      Array.from({ length: 30 }, (_, index) => 30 - index),
      'newest first',
    )
    t.same(seen.slice(0, 3), [
      { version: 30, to: 'closed', cause: 'probes_succeeded' },
      { version: 29, to: 'half_open', cause: 'auto_recovery' },
      { version: 28, to: 'open', cause: 'failure_threshold' },
    ])
    const versions = instances.flatMap(({ told }) =>
      told.map((event) => ('version' in event ? Number(event.version) : 0)),
    )
    t.same(
      versions.sort((a, b) => a - b),
      Array.from({ length: 30 }, (_, index) => index + 1),
      'each was told by one process',
    )
    t.equal(await redis('XLEN', keys.events(namespace)), 30)
  },
)

t.test('overrides that race with one version: one is done, the others are a version conflict', async (t) => {
  const instances = await startInstances(t, 10)
  const namespace = randomNamespace()
  const [first] = instances as [Instance]
  await open(first, namespace)
  const request = { action: 'half_open', version: 1, ...why } as const
  const answers = await Promise.allSettled(
    instances.map(({ breakers }) => breakers.override(namespace, job, request, actor)),
  )
  const done = answers.filter(({ status }) => status === 'fulfilled')
  const refused = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Problem] : []))
  t.equal(done.length, 1)
  t.same(new Set(refused.map(({ slug }) => slug)), new Set(['version-conflict']))
  t.match(refused[0]?.members, { version: 2 })
  t.equal(await redis('XLEN', keys.audit(namespace)), 1, 'an act has its audit entry, a refused one has none')
  t.match(await first.breakers.get(namespace, job), { state: 'half_open', version: 2 })
})

t.test('an override is told in last_override, history, events and audit; a permit of before ends', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  const { breakers } = instance
  await open(instance, namespace)
  const opened = await breakers.override(namespace, job, { action: 'open', expires_in_seconds: 60, ...why }, actor)
  t.match(opened, {
    ...{ state: 'open', version: 2, reason: 'forced_open', requires_override: false },
    last_override: { user: 'alice', on_behalf_of: null, reason: 'a test says so', action: 'open' },
  })
  t.equal(opened.auto_recovery_at, opened.last_override?.expires_at)
  t.match(await breakers.check(namespace, job, 'p'), { allowed: false, reason: 'forced_open' })
  await moveClock(60)
  t.match(await breakers.get(namespace, job), { state: 'half_open', version: 3, reason: 'override_expired' })
  t.match(await breakers.check(namespace, job, 'p'), { allowed: true, reason: 'probe' })
  t.match(await toHalfOpen(instance, namespace), { state: 'half_open', version: 4 })
  t.match(await breakers.success(namespace, job, { probe_id: 'p' }), { state: 'half_open', version: 4 })
  t.match(await breakers.reset(namespace, job, why, actor), {
    ...{ state: 'closed', version: 5, failure_count: 0, last_override: null, opened_at: null, reason: null },
  })
  t.same(named(instance), [
    ...['breaker.opened', 'breaker.overridden', 'breaker.half_opened', 'breaker.overridden'],
    ...['breaker.closed', 'breaker.overridden'],
  ])
  const entries = (await redis('XRANGE', keys.audit(namespace), '-', '+')) as [string, string[]][]
  const actions = entries.map(([, fields]) => fields[fields.indexOf('action') + 1])
  t.same(actions, ['breaker.override', 'breaker.override', 'breaker.reset'])
  const last = entries.at(-1)![1]
  t.match(JSON.parse(last[last.indexOf('before') + 1]!), { state: 'half_open', version: 4 })
  t.match(JSON.parse(last[last.indexOf('after') + 1]!), { state: 'closed', version: 5 })
  t.match(await instance.audit.verify(namespace), { ok: true, entries: 3 })
})

t.test('forced open without an end stays open', async (t) => {
  const instance = await startInstance(t, { auto_recovery_seconds: 5 })
  const namespace = randomNamespace()
  const { breakers } = instance
  t.match(await breakers.override(namespace, job, { action: 'open', ...why }, actor), { requires_override: true })
  await moveClock(86_400)
  t.match(await breakers.get(namespace, job), { state: 'open', version: 1 })
  t.match(await breakers.override(namespace, job, { action: 'close', ...why }, actor), { state: 'closed', version: 2 })
})

t.test('while open nothing counts, and a job begun before the opening moves nothing afterwards', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 2 })
  const namespace = randomNamespace()
  const { breakers } = instance
  await breakers.get(namespace, job)
  const clock = await instance.store.clock()
  const begun_us = clock.nowUs()
  await fail(instance, namespace, 2)
  const late = { permit: 'effect', event_id: 'effect:1', owner: 'bot', classification: counting }
  t.same(await breakers.gate.failed(namespace, job, late), { state: 'open', refuses: true, holdUntilMs: 0 })
  await breakers.gate.succeeded(namespace, job, { permit: 'effect', event_id: 'effect:2' })
  t.match(await breakers.get(namespace, job), { state: 'open', version: 1, failure_count: 2 })
  await toHalfOpen(instance, namespace)
  await breakers.gate.failed(namespace, job, { ...late, event_id: 'effect:3' })
  await breakers.gate.succeeded(namespace, job, { permit: 'effect', event_id: 'effect:4' })
  t.match(await breakers.get(namespace, job), { state: 'half_open', version: 2 })
  await breakers.override(namespace, job, { action: 'close', ...why }, actor)
  await breakers.gate.failed(namespace, job, { ...late, event_id: 'effect:5', begun_us })
  t.match(await breakers.get(namespace, job), { state: 'closed', failure_count: 0 }, 'begun before the opening')
  await breakers.gate.failed(namespace, job, { ...late, event_id: 'effect:6', begun_us: clock.nowUs() })
  t.match(await breakers.get(namespace, job), { state: 'closed', failure_count: 1 })
})

t.test('the same event counts once: in the window, after the breaker closed again, and for probes', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 2, half_open_successes: 2 })
  const namespace = randomNamespace()
  const { breakers } = instance
  t.match(await fail(instance, namespace, 5, { event_id: 'a' }), { state: 'closed', failure_count: 1 })
  t.match(await fail(instance, namespace, 1, { event_id: 'b' }), { state: 'open' })
  await toHalfOpen(instance, namespace)
  const probe = async (event_id: string) => {
    await breakers.check(namespace, job, 'p')
    return breakers.success(namespace, job, { probe_id: 'p', event_id })
  }
  t.match(await probe('c'), { state: 'half_open' })
  t.match(await probe('c'), { state: 'half_open' }, 'a repeat is no second success')
  t.match(await breakers.success(namespace, job, { probe_id: 'p', event_id: 'd' }), { state: 'closed', version: 3 })
  for (const event_id of ['a', 'b', 'c', 'd']) {
    t.match(await fail(instance, namespace, 1, { event_id }), { state: 'closed', failure_count: 0 }, event_id)
  }
})

t.test('what has opened a breaker never counts towards the next opening', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  const { breakers } = instance
  const again = async () => {
    for (let i = 0; i < 10; i++) await fail(instance, namespace, 1, { event_id: `E${i}` })
    return breakers.get(namespace, job)
  }
  t.match(await again(), { state: 'open', version: 1 })
  await breakers.override(namespace, job, { action: 'close', ...why }, actor)
  await fail(instance, namespace, 1, { event_id: 'F1' })
  t.match(await again(), { state: 'closed', version: 2, failure_count: 1 })
  await breakers.reset(namespace, job, why, actor)
  t.match(await again(), { state: 'closed', version: 3, failure_count: 0 }, 'nor after a reset')
  await open(instance, namespace)
  await toHalfOpen(instance, namespace)
  await breakers.check(namespace, job, 'p')
  t.match(await breakers.success(namespace, job, { probe_id: 'p' }), { state: 'closed', version: 6 })
  await fail(instance, namespace, 1, { event_id: 'F1' })
  t.match(await again(), { state: 'closed', version: 6, failure_count: 0 })
})

t.test('failures are kept ten minutes, and no more than the newest 2,000', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 3, min_distinct_owners: 2 })
  const namespace = randomNamespace()
  const reports = keys.breaker(namespace, job)[1]!
  await addFailures(reports, limits.breakerFailuresKept, await nowUs(instance, namespace))
  await fail(instance, namespace, 1, { owner: 'a', event_id: 'a' })
  const many = await fail(instance, namespace, 2, { owner: 'a', event_id: 'a' })
  t.match(many, { state: 'closed', failure_count: limits.breakerFailuresKept })
  t.equal(await redis('ZCARD', reports), limits.breakerFailuresKept)
  await moveClock(599)
  t.match(await fail(instance, namespace, 1, { owner: 'a', event_id: 'a' }), { failure_count: 0 }, 'still known')
  await moveClock(2)
  t.match(await fail(instance, namespace, 1, { owner: 'a' }), { failure_count: 1 })
  t.equal(await redis('ZCARD', reports), 1)
})

t.test('the largest set of failures keeps a report below a millisecond of Lua', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 1000, min_distinct_owners: 1000 })
  const namespace = randomNamespace()
  const reports = keys.breaker(namespace, job)[1]!
  await fail(instance, namespace, 1)
  const cost = (at: number) =>
    scriptCost(redis, async () => {
      await addFailures(reports, limits.breakerFailuresKept, at)
      await instance.breakers.failure(namespace, job, {})
    })
  const full = await cost(await nowUs(instance, namespace))
  const stale = await cost(1)
  t.comment(`one more ${full}, one that lets all others go ${stale}`)
  t.ok(full < 1, `one more: ${full}`)
  t.ok(stale < 1, `one that lets all others go: ${stale}`)
})

t.test('one bad node does not shut a venue for all: min_distinct_owners', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 5, min_distinct_owners: 3 })
  const namespace = randomNamespace()
  await fail(instance, namespace, 1, { owner: 'b' })
  t.match(await fail(instance, namespace, 50, { owner: 'a' }), { state: 'closed', failure_count: 51 })
  const owners = keys.breaker(namespace, job)[2]
  t.equal(await redis('ZCARD', owners!), 2)
  t.match(await fail(instance, namespace, 1, { owner: 'c' }), { state: 'open' }, 'the failure of b is remembered')
  t.match(instance.told[0], { event: 'breaker.opened', failure_count: 52 })
})

t.test('an owner whose failure left the window is no distinct owner', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 2, min_distinct_owners: 2 })
  const namespace = randomNamespace()
  await fail(instance, namespace, 1, { owner: 'a' })
  await moveClock(301)
  t.match(await fail(instance, namespace, 3, { owner: 'b' }), { state: 'closed' })
  t.match(await fail(instance, namespace, 1, { owner: 'a' }), { state: 'open' })
})

t.test('only failures that count for the breaker count', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 1 })
  const namespace = randomNamespace()
  const balance = { error: { code: -2010, message: 'Account has insufficient balance for requested action.' } }
  t.match(await fail(instance, namespace, 3, balance), { state: 'closed', failure_count: 0 })
  t.match(await fail(instance, namespace, 1, { error: { http_status: 503 } }), { state: 'open' })
})

t.test('one probe across workers; its permit comes back when its holder dies, and renewing keeps it', async (t) => {
  const [one, two] = (await startInstances(t, 2)) as [Instance, Instance]
  const namespace = randomNamespace()
  await open(one, namespace)
  await toHalfOpen(one, namespace)
  t.match(await one.breakers.check(namespace, job, 'p'), { allowed: true, reason: 'probe' })
  t.match(await two.breakers.check(namespace, job, 'p'), { allowed: true, reason: 'probe' }, 'the same answer')
  t.match(await two.breakers.check(namespace, job, 'q'), { allowed: false, reason: 'no_probe_left', probe_id: 'q' })
  await moveClock(30)
  t.match(await two.breakers.success(namespace, job, { probe_id: 'p' }), { state: 'half_open' }, 'its permit has ended')
  const effect = { permit: 'effect', lease_ms: 10_000 }
  t.same(await two.breakers.gate.take(namespace, job, effect), { allowed: true })
  await moveClock(8)
  await one.breakers.gate.extend(namespace, job, 'effect', 10_000)
  await moveClock(8)
  const refused = await one.breakers.gate.take(namespace, job, { permit: 'other', lease_ms: 10_000 })
  t.match(refused, { allowed: false, refusal: { breaker_state: 'half_open', reason: 'no_probe_left' } })
  await moveClock(3)
  await one.breakers.gate.extend(namespace, job, 'effect', 10_000)
  t.same(await one.breakers.gate.take(namespace, job, { permit: 'other', lease_ms: 10_000 }), { allowed: true })
  await one.breakers.gate.giveBack(namespace, job, 'other')
  t.match(await two.breakers.check(namespace, job, 'q'), { allowed: true }, 'given back')
})

t.test("a claim carries its check's probe on, and its success closes", async (t) => {
  const instance = await startInstance(t)
  const { gate, check, get } = instance.breakers
  const namespace = randomNamespace()
  await open(instance, namespace)
  await toHalfOpen(instance, namespace)
  t.match(await gate.view(namespace, job), { verdict: 'ask' })
  const { probe_id } = await check(namespace, job, undefined)
  const ask = { permit: 'effect', probe_id, lease_ms: 60_000 }
  t.same(await gate.take(namespace, job, ask), { allowed: true })
  t.same(await gate.take(namespace, job, ask), { allowed: true }, 'sent again')
  t.match(await check(namespace, job, probe_id), { allowed: false }, 'the permit is the claim’s now')
  await moveClock(45)
  await gate.succeeded(namespace, job, { permit: 'effect', event_id: 'effect:1' })
  t.match(await get(namespace, job), { state: 'closed', version: 3 })
  t.match(await gate.view(namespace, job), { verdict: 'pass' })
})

t.test('a failed probe opens again; one that says nothing about the venue gives its permit back', async (t) => {
  const instance = await startInstance(t, { auto_recovery_seconds: 60 })
  const { gate, get } = instance.breakers
  const namespace = randomNamespace()
  await open(instance, namespace)
  await moveClock(60)
  t.same(await gate.take(namespace, job, { permit: 'e1', lease_ms: 60_000 }), { allowed: true })
  const told = { permit: 'e1', event_id: 'e1:1', owner: 'bot' }
  t.match(await gate.failed(namespace, job, { ...told, classification: harmless }), { state: 'half_open' })
  t.same(await gate.take(namespace, job, { permit: 'e2', lease_ms: 60_000 }), { allowed: true }, 'given back')
  const second = { permit: 'e2', event_id: 'e2:1', owner: 'bot', classification: counting }
  t.same(await gate.failed(namespace, job, second), { state: 'open', refuses: true, holdUntilMs: 0 })
  t.match(await get(namespace, job), { state: 'open', version: 3, reason: 'probe_failed', requires_override: false })
  await moveClock(60)
  t.match(await get(namespace, job), { state: 'half_open', version: 4 })
})

t.test('a rate limit that names a time holds every worker, and ends by itself', async (t) => {
  const [one, two] = (await startInstances(t, 2)) as [Instance, Instance]
  const namespace = randomNamespace()
  const error = { message: 'Too many requests', code: -1003, exchange: 'binance', retry_after_seconds: 20 }
  const held = await one.breakers.failure(namespace, job, { error, event_id: 'a' })
  t.match(held, { state: 'closed', version: 0, failure_count: 1, requires_override: false })
  t.type(held.hold_until, 'string')
  const verdict = await two.breakers.gate.view(namespace, job)
  t.match(verdict, {
    verdict: 'refuse',
    refusal: { breaker_state: 'closed', reason: 'hold', requires_override: false },
  })
  t.equal(verdict.refusal?.hold_until, held.hold_until)
  t.ok((verdict.refusal?.retry_after_seconds ?? 0) > 19 && (verdict.refusal?.retry_after_seconds ?? 99) <= 20)
  t.match(await two.breakers.check(namespace, job, undefined), { allowed: false, state: 'closed', reason: 'hold' })
  await moveClock(10)
  t.match(await one.breakers.failure(namespace, job, { error, event_id: 'a' }), { hold_until: held.hold_until })
  await moveClock(10)
  t.match(await two.breakers.check(namespace, job, undefined), { allowed: true, reason: 'closed' })
  t.match(await two.breakers.gate.view(namespace, job), { verdict: 'pass' })
  t.match(await two.breakers.get(namespace, job), { hold_until: null, version: 0 })
})

t.test('a person lifts a hold', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  const error = { code: -1003, exchange: 'binance', retry_after_seconds: 3600 }
  await instance.breakers.failure(namespace, job, { error })
  t.match(await instance.breakers.reset(namespace, job, why, actor), { hold_until: null, failure_count: 0 })
  t.match(await instance.breakers.gate.view(namespace, job), { verdict: 'pass' })
})

t.test('shadow lets everything go, counts, and says what it would have refused', async (t) => {
  const instance = await startInstance(t, { mode: 'shadow' })
  const namespace = randomNamespace()
  const { breakers } = instance
  t.match(await breakers.check(namespace, job, undefined), { allowed: true, would_block: false, reason: 'closed' })
  t.match(await open(instance, namespace), { state: 'open', mode: 'shadow', failure_count: 10 })
  const checked = await breakers.check(namespace, job, 'p')
  t.match(checked, { allowed: true, would_block: true, state: 'open', reason: 'shadow' })
  t.same(await breakers.gate.view(namespace, job), { verdict: 'pass', wouldBlock: true })
  t.match(instance.told.at(-1), { event: 'breaker.would_block', namespace, job_type: job, state: 'open' })
  t.equal(named(instance).filter((name) => name === 'breaker.would_block').length, 1, 'at most one a second')
  await toHalfOpen(instance, namespace)
  for (const permit of ['a', 'b']) {
    t.same(await breakers.gate.take(namespace, job, { permit, lease_ms: 1000 }), { allowed: true })
  }
  await breakers.gate.succeeded(namespace, job, { permit: 'b', event_id: 'b:1' })
  t.match(await breakers.get(namespace, job), { state: 'half_open' }, 'b had no permit')
  await breakers.gate.succeeded(namespace, job, { permit: 'a', event_id: 'a:1' })
  t.match(await breakers.get(namespace, job), { state: 'closed' })
})

t.test('disabled neither counts nor refuses', async (t) => {
  const instance = await startInstance(t, { mode: 'disabled' })
  const namespace = randomNamespace()
  const { breakers } = instance
  t.match(await fail(instance, namespace, 20), { state: 'closed', mode: 'disabled', failure_count: 0 })
  await breakers.override(namespace, job, { action: 'open', ...why }, actor)
  t.match(await breakers.check(namespace, job, 'p'), { allowed: true, would_block: false, reason: 'disabled' })
  t.same(await breakers.gate.view(namespace, job), { verdict: 'pass', wouldBlock: false })
  t.same(await breakers.gate.take(namespace, job, { permit: 'a', lease_ms: 1000 }), { allowed: true })
  const told = { permit: 'a', event_id: 'a:1', owner: 'bot', classification: counting }
  t.match(await breakers.gate.failed(namespace, job, told), { refuses: false })
})

t.test('a claim meets a closed breaker without a round trip', async (t) => {
  const instance = await startInstance(t)
  const { gate } = instance.breakers
  const namespace = randomNamespace()
  await gate.view(namespace, job)
  const before = instance.scripts()
  for (let i = 0; i < 100; i++) {
    await gate.view(namespace, job)
    await gate.succeeded(namespace, job, { permit: 'e', event_id: `e:${i}` })
    await gate.extend(namespace, job, 'e', 1000)
    await gate.giveBack(namespace, job, 'e')
    await gate.failed(namespace, job, { permit: 'e', event_id: `e:${i}`, owner: 'bot', classification: harmless })
  }
  // One refresh may fall into the loop on a slow machine.
  t.ok(instance.scripts() - before <= 1, `${instance.scripts() - before} round trips`)
  await gate.failed(namespace, job, { permit: 'e', event_id: 'e', owner: 'bot', classification: counting })
  t.ok(instance.scripts() - before <= 2, 'a failure that counts is one script')
})

t.test("another process's transition is seen within a second, one's own at once", async (t) => {
  const [one, two] = (await startInstances(t, 2, { failure_threshold: 1 })) as [Instance, Instance]
  const namespace = randomNamespace()
  one.breakers.start()
  two.breakers.start()
  let slowestMs = 0
  for (let round = 0; round < 5; round++) {
    t.match(await two.breakers.gate.view(namespace, job), { verdict: 'pass' })
    const sinceMs = performance.now()
    await one.breakers.failure(namespace, job, {})
    t.match(await one.breakers.gate.view(namespace, job), { verdict: 'refuse' }, 'at once where it was made')
    await waitFor(async () => (await two.breakers.gate.view(namespace, job)).verdict === 'refuse')
    slowestMs = Math.max(slowestMs, performance.now() - sinceMs)
    await two.breakers.reset(namespace, job, why, actor)
  }
  t.comment(`the view was at most ${Math.round(slowestMs)} ms old`)
  t.ok(slowestMs < 1000, `${slowestMs} ms`)
})

t.test('a namespace that no claim asked for is not polled; a job type not yet seen is read afresh', async (t) => {
  const [one, two] = (await startInstances(t, 2)) as [Instance, Instance]
  const namespace = randomNamespace()
  await open(one, namespace)
  one.breakers.start()
  two.breakers.start()
  const before = one.scripts()
  t.match(await two.breakers.gate.view(namespace, 'another_job'), { verdict: 'pass' })
  const polls = two.scripts()
  t.match(await two.breakers.gate.view(namespace, job), { verdict: 'refuse' })
  await waitFor(() => two.scripts() >= polls + 5)
  t.equal(one.scripts(), before)
})

t.test('a view notices that the store has lost what it had seen, as after a failover', async (t) => {
  const [one, two] = (await startInstances(t, 2)) as [Instance, Instance]
  const namespace = randomNamespace()
  const lasting = [keys.breaker(namespace, job)[0]!, keys.breakerIndex(namespace)]
  await open(one, namespace)
  for (const key of lasting) await redis('COPY', key, `${key}-replica`)
  two.breakers.start()
  t.match(await two.breakers.gate.view(namespace, job), { verdict: 'refuse' })
  await one.breakers.override(namespace, job, { action: 'close', ...why }, actor)
  await waitFor(async () => (await two.breakers.gate.view(namespace, job)).verdict === 'pass')
  for (const key of lasting) await redis('COPY', `${key}-replica`, key, 'REPLACE')
  await waitFor(async () => (await two.breakers.gate.view(namespace, job)).verdict === 'refuse')
})

t.test('more changes at once than one read takes are all seen', async (t) => {
  const [one, two] = (await startInstances(t, 2, { failure_threshold: 1 })) as [Instance, Instance]
  const namespace = randomNamespace()
  await two.breakers.gate.view(namespace, job)
  const jobTypes = [job, ...Array.from({ length: 150 }, (_, index) => `job_${index}`)]
  await Promise.all(jobTypes.map((jobType) => one.breakers.failure(namespace, jobType, {})))
  await waitFor(async () => (await two.breakers.gate.view(namespace, job)).verdict === 'refuse')
})

t.test('lists what is remembered, by state, in pages, as of now', async (t) => {
  const instance = await startInstance(t, { failure_threshold: 1, auto_recovery_seconds: 60 })
  const { breakers } = instance
  const namespace = randomNamespace()
  const jobTypes = Array.from({ length: 25 }, (_, index) => `job_${index}`)
  for (const jobType of jobTypes) await breakers.failure(namespace, jobType, {})
  const all: string[] = []
  let cursor: string | undefined
  do {
    const page = await breakers.list(namespace, { state: 'open', limit: 10, cursor })
    all.push(...page.breakers.map(({ job_type }) => job_type))
    cursor = page.next_cursor ?? undefined
  } while (cursor)
  t.same(all, jobTypes)
  await moveClock(60)
  t.same((await breakers.list(namespace, { state: 'open', limit: 500 })).breakers, [])
  t.equal((await breakers.list(namespace, { state: 'half_open', limit: 500 })).breakers.length, 25)
  t.equal((await breakers.states(namespace)).filter(({ state }) => state === 'half_open').length, 25)
  await t.rejects(breakers.list(namespace, { limit: 5, cursor: 'x' }), {
    message: '?cursor: is not a cursor of this list',
  })
})

t.test('history comes newest first, in pages that new transitions do not shift, and is bounded', async (t) => {
  const instance = await startInstance(t)
  const { breakers } = instance
  const namespace = randomNamespace()
  const once = () => breakers.override(namespace, job, { action: 'close', ...why }, actor)
  for (let i = 0; i < 210; i++) await once()
  const first = await breakers.history(namespace, job, { limit: 150 })
  t.match(first.history[0], { version: 210, from: 'closed', to: 'closed', user: 'alice', reason: 'a test says so' })
  await once()
  const second = await breakers.history(namespace, job, { limit: 150, cursor: first.next_cursor ?? '' })
  t.equal(second.history[0]?.version, 60)
  t.equal(second.next_cursor, null)
  t.equal(await redis('LLEN', keys.breaker(namespace, job)[4]!), 200)
})

t.test('a breaker takes about 500 bytes a job type', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  await open(instance, namespace)
  await instance.breakers.override(namespace, job, { action: 'close', ...why }, actor)
  await moveClock(601)
  const [breaker, ...others] = keys.breaker(namespace, job)
  const bytes = (await redis('MEMORY', 'USAGE', breaker!)) as number
  t.comment(`${bytes} bytes`)
  t.ok(bytes < 1024, `${bytes} bytes`)
  for (const key of others.slice(0, 2)) t.ok(Number(await redis('PTTL', key)) > 0, 'what is counted expires')
  t.ok(Number(await redis('PTTL', breaker!)) > 0, 'a closed breaker is forgotten when nothing happens to it')
  await open(instance, namespace)
  t.equal(await redis('PTTL', breaker!), -1, 'an open one never is')
})

t.test('a breaker that was forgotten leaves the list', async (t) => {
  const instance = await startInstance(t)
  const namespace = randomNamespace()
  await fail(instance, namespace, 1)
  t.equal((await instance.breakers.list(namespace, { limit: 5 })).breakers.length, 1)
  await redis('DEL', ...keys.breaker(namespace, job).slice(0, 5))
  t.equal((await instance.breakers.list(namespace, { limit: 5 })).breakers.length, 0)
  t.equal(await redis('ZCARD', keys.breakerIndex(namespace)), 0)
})
