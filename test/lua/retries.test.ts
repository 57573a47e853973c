/** Retry metrics and budgets on a real Redis, as several processes use them, with a clock that the tests move. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { limits } from '../../src/limits.ts'
import { createLog } from '../../src/observability/log.ts'
import { connectStore } from '../../src/redis/client.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { loadPreludes } from '../../src/redis/scripts.ts'
import { createRetryMetrics, otherJobTypes, type RetryBudget } from '../../src/retries/metrics.ts'
import { clockOffsetKey } from '../helpers/app.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { quietWatch } from '../helpers/store.ts'
import { scriptCost } from '../helpers/script-cost.ts'

const redis = await startRedis(t)
const keys = createKeys('idempotency')
const minuteUs = 60_000_000
const movedClock = `
clock.now_us = clock.now_us + tonumber(redis.call('GET', '${clockOffsetKey}') or 0)
clock.now_ms = math.floor(clock.now_us / 1000)`
const cli = (...args: (string | number)[]) => redisCli(redis.port, ...args)

interface Options {
  enabled?: boolean
  budget?: RetryBudget | null
  url?: string
}

/** One process: a connection and a queue of its own. */
function startProcess(t: { teardown(end: () => void): void }, options: Options = {}) {
  const preludes = loadPreludes()
  const address = { url: options.url ?? redis.url, username: null, password: null, tls: null }
  const observer = { answered: () => undefined, trouble: () => undefined, connection: () => undefined }
  const store = connectStore(address, { ...preludes, clock: preludes.clock + movedClock }, observer, quietWatch())
  t.teardown(store.close)
  let lost = 0
  const metrics = createRetryMetrics({
    ...{ store, keys, log: createLog('silent'), newId: randomUUID },
    settings: { enabled: options.enabled ?? true, windowMinutes: 60, budget: () => options.budget ?? null },
    observe: { retryRecordsLost: (count) => (lost += count) },
  })
  return { ...metrics, lost: () => lost }
}

/** Sets the clock of this test to the start of a minute that no test has used, so that none runs into the next by chance. */
async function startOfMinute(): Promise<void> {
  const [seconds, microseconds] = (await cli('TIME')) as [string, string]
  const us = Number(seconds) * 1_000_000 + Number(microseconds)
  await cli('SET', clockOffsetKey, minuteUs - (us % minuteUs))
}
const moveMinutes = (minutes: number) => cli('INCRBY', clockOffsetKey, minutes * minuteUs)
const moveMs = (ms: number) => cli('INCRBY', clockOffsetKey, ms * 1000)

t.beforeEach(startOfMinute)

t.test(
  'what twenty recorders of four processes record is summed exactly, in the metrics and for all time',
  async (t) => {
    const namespace = randomNamespace()
    const processes = Array.from({ length: 4 }, () => startProcess(t))
    const recorders = Array.from({ length: 20 }, async (_, recorder) => {
      const { record } = processes[recorder % 4]!
      for (let round = 0; round < 25; round++) {
        await record(namespace, 'order', { kind: 'attempt', attempt_number: 2 + (round % 2) })
        await record(namespace, 'order', { kind: round % 5 === 0 ? 'failure' : 'success' })
        if (round % 10 === 0) await record(namespace, 'order', { kind: 'blocked', reason: 'circuit_open' })
      }
    })
    await Promise.all(recorders)
    const all = await processes[3]!.readAll(namespace)
    t.same(all.totals, { attempts: 500, successes: 400, failures: 100, blocked: 60 })
    t.same(all.blocked_by_reason, { circuit_open: 60 })
    t.equal(all.avg_attempts, (13 * 2 + 12 * 3) / 25)
    t.equal(all.retry_rate_per_minute, 500 / 60)
    t.equal(all.retry_success_rate, 80)
    t.equal(all.retry_failure_rate, 20)
    t.equal(all.retry_block_rate, (100 * 60) / 560)
    const { job_types, ...together } = all
    t.same(job_types, { order: together })
    t.equal((await processes[0]!.allCounts(namespace)).get('order')?.total.attempts, 500)
  },
)

t.test('what is recorded without waiting is counted by every process, nothing twice and nothing lost', async (t) => {
  const namespace = randomNamespace()
  const processes = [startProcess(t), startProcess(t)]
  for (let event = 0; event < 700; event++) {
    // Both are told of each event, as when two processes answer the same repeated call.
    for (const { recordLater } of processes) {
      recordLater(namespace, `job_${event % 3}`, { kind: 'attempt', attempt_number: 2, event_id: `event ${event}` })
    }
  }
  await Promise.all(processes.map(({ flush }) => flush()))
  const { totals, job_types } = await processes[0]!.readAll(namespace)
  t.equal(totals.attempts, 700)
  t.same(Object.keys(job_types), ['job_0', 'job_1', 'job_2'])
  t.same(
    processes.map(({ lost }) => lost()),
    [0, 0],
  )
})

t.test(
  'where Redis is away, recording without waiting loses what it says, keeps its bound and never throws',
  async (t) => {
    const { recordLater, flush, lost, record } = startProcess(t, { url: 'redis://127.0.0.1:1' })
    for (let event = 0; event < limits.retryQueueMax + 100; event++) recordLater('default', 'job', { kind: 'success' })
    const dropped = lost()
    t.ok(dropped >= 50 && dropped <= 100, `${dropped} did not fit`)
    await t.rejects(record('default', 'job', { kind: 'success' }), { message: 'Redis cannot be reached.' })
    await waitFor(() => lost() > dropped)
    await flush()
    t.equal(lost(), limits.retryQueueMax + 100, 'a flush ends at the first failure')
  },
)

t.test('a window is the last minutes, the running one included; older ones leave it one by one', async (t) => {
  const namespace = randomNamespace()
  const { record, readOne } = startProcess(t)
  for (let minute = 0; minute < 5; minute++) {
    if (minute > 0) await moveMinutes(1)
    for (let event = 0; event <= minute; event++) {
      await record(namespace, 'order', { kind: 'attempt', attempt_number: 70 * (event + 1) })
    }
    await record(namespace, 'order', { kind: 'blocked', reason: `reason ${minute}` })
  }
  const attempts = async (window: number) => (await readOne(namespace, 'order', window)).totals.attempts
  t.same(await Promise.all([1, 2, 3, 4, 5, 1440].map(attempts)), [5, 9, 12, 14, 15, 15])
  t.same((await readOne(namespace, 'order', 2)).blocked_by_reason, { 'reason 3': 1, 'reason 4': 1 })
  t.equal((await readOne(namespace, 'order', 1)).avg_attempts, 210)
  await moveMinutes(3)
  t.same(await Promise.all([1, 3, 4, 5].map(attempts)), [0, 0, 5, 9], 'minutes in which nothing happened count as such')
  await moveMinutes(1433)
  t.equal(await attempts(1440), 14, 'the first minute is 1,440 minutes old')
})

t.test('days later the ring holds nothing of the past, and the totals hold everything', async (t) => {
  const namespace = randomNamespace()
  const { record, readOne, allCounts } = startProcess(t)
  for (let step = 0; step < 30; step++) {
    await record(namespace, 'order', { kind: 'failure' })
    await moveMinutes(200) // over every chunk, several times round the ring
  }
  t.equal((await readOne(namespace, 'order', 1440)).totals.failures, 7)
  await moveMinutes(3 * 1440)
  t.equal((await readOne(namespace, 'order', 1440)).totals.failures, 0)
  await record(namespace, 'order', { kind: 'failure' })
  t.equal((await readOne(namespace, 'order', 1440)).totals.failures, 1)
  t.equal((await allCounts(namespace)).get('order')?.total.failures, 31)
})

t.test('a clock that runs backwards neither loses nor doubles a count', async (t) => {
  const namespace = randomNamespace()
  const { record, readOne } = startProcess(t)
  await record(namespace, 'order', { kind: 'success' })
  await moveMinutes(2)
  await record(namespace, 'order', { kind: 'success' })
  await moveMinutes(-1)
  await record(namespace, 'order', { kind: 'success' })
  t.equal((await readOne(namespace, 'order', 60)).totals.successes, 3)
  await moveMinutes(10)
  await record(namespace, 'order', { kind: 'success' })
  t.equal((await readOne(namespace, 'order', 60)).totals.successes, 4)
})

/** Records `each` once in every minute of a day, and answers the bytes of the job type's key. */
async function bytesOfADay(t: { teardown(end: () => void): void }, each: [kind: string, count: number][]) {
  const namespace = randomNamespace()
  const { readOne } = startProcess(t)
  const script = startProcess(t)
  for (let minute = 0; minute < 1440; minute++) {
    for (const [kind, count] of each) {
      for (let event = 0; event < count; event++) script.recordLater(namespace, 'order', { kind: kind as 'attempt' })
    }
    await script.flush()
    await moveMinutes(1)
  }
  const { totals } = await readOne(namespace, 'order', 1440)
  return { bytes: Number(await cli('MEMORY', 'USAGE', keys.retryMetrics(namespace, 'order'), 'SAMPLES', 0)), totals }
}

t.test('a job type that retries in every minute of a day takes about 10 KB, and every minute is exact', async (t) => {
  const each: [string, number][] = [['attempt', 20], ['success', 15], ['failure', 5], ['blocked', 2]] // prettier-ignore
  const { bytes, totals } = await bytesOfADay(t, each)
  t.comment(`${bytes} bytes`)
  t.ok(bytes < 12 * 1024, `${bytes} bytes`)
  t.same(totals, { attempts: 1439 * 20, successes: 1439 * 15, failures: 1439 * 5, blocked: 1439 * 2 })
})

t.test('an event id counts once for each kind and job type, also in another process and another minute', async (t) => {
  const namespace = randomNamespace()
  const [one, two] = [startProcess(t), startProcess(t)]
  const event_id = 'the same'
  await Promise.all([one, two, one, two].map(({ record }) => record(namespace, 'order', { kind: 'success', event_id })))
  await moveMinutes(30)
  await two.record(namespace, 'order', { kind: 'success', event_id })
  t.equal((await one.readOne(namespace, 'order')).totals.successes, 1)
  await one.record(namespace, 'order', { kind: 'failure', event_id })
  await one.record(namespace, 'other', { kind: 'success', event_id })
  await one.record(randomNamespace(), 'order', { kind: 'success', event_id })
  t.same((await one.readAll(namespace)).totals, { attempts: 0, successes: 2, failures: 1, blocked: 0 })
  await moveMinutes(61)
  await two.record(namespace, 'order', { kind: 'success', event_id })
  t.equal((await one.readOne(namespace, 'order', 1440)).totals.successes, 2, 'after an hour it is forgotten')
})

t.test('the memory of event ids is bounded and ends by itself', async (t) => {
  const namespace = randomNamespace()
  const { recordLater, flush, record, readOne } = startProcess(t)
  const seen = keys.retrySeen(namespace)
  for (let event = 0; event < 9000; event++)
    recordLater(namespace, 'order', { kind: 'success', event_id: `old ${event}` })
  await flush()
  await moveMinutes(1)
  for (let event = 0; event < 2000; event++)
    recordLater(namespace, 'order', { kind: 'success', event_id: `new ${event}` })
  await flush()
  t.equal(await cli('ZCARD', seen), 10_000)
  const remaining = Number(await cli('PTTL', seen))
  t.ok(remaining > 0 && remaining <= limits.retryEventIdsMs, 'it has an end')
  await record(namespace, 'order', { kind: 'success', event_id: 'new 0' })
  t.equal((await readOne(namespace, 'order')).totals.successes, 11_000, 'the newest are remembered')
  await moveMinutes(120)
  for (let event = 0; event < 700; event++) recordLater(namespace, 'order', { kind: 'success' })
  await flush()
  t.ok(Number(await cli('ZCARD', seen)) <= 700, 'those that are over go as others come')
})

t.test('reasons of callers are bounded: sixteen of their own beside the known ones, then `other`', async (t) => {
  const namespace = randomNamespace()
  const { record, readOne } = startProcess(t)
  const reasons = [
    '__proto__',
    '1',
    'a "quoted"\n\\ reason',
    'ünïcode ✓',
    ...Array.from({ length: 14 }, (_, i) => `r${i}`),
  ]
  for (const reason of [...reasons, 'not_retryable', 'budget_exhausted']) {
    await record(namespace, 'order', { kind: 'blocked', reason })
    await moveMinutes(1)
  }
  const { blocked_by_reason, totals } = await readOne(namespace, 'order')
  t.equal(totals.blocked, 20)
  const wanted = [...reasons.slice(0, 16), 'not_retryable', 'budget_exhausted'].map((reason) => [reason, 1] as const)
  t.same(new Map(Object.entries(blocked_by_reason)), new Map([...wanted, ['other', 2]]))
})

t.test('job types beyond the bound are counted together, under a name that no job type has', async (t) => {
  const namespace = randomNamespace()
  const { recordLater, flush, readAll } = startProcess(t)
  for (let job = 0; job < limits.retryJobTypesMax + 10; job++) recordLater(namespace, `job_${job}`, { kind: 'failure' })
  await flush()
  recordLater(namespace, 'job_0', { kind: 'failure' })
  recordLater(namespace, `job_${limits.retryJobTypesMax + 1}`, { kind: 'failure' })
  await flush()
  const { job_types, totals } = await readAll(namespace)
  t.equal(totals.failures, limits.retryJobTypesMax + 12)
  t.equal(Object.keys(job_types).length, limits.retryJobTypesMax + 1)
  t.equal(job_types[otherJobTypes]?.totals.failures, 11)
  t.equal(job_types['job_0']?.totals.failures, 2)
  t.equal(await cli('EXISTS', keys.retryMetrics(namespace, `job_${limits.retryJobTypesMax + 1}`)), 0)
})

t.test('with metrics switched off nothing is stored', async (t) => {
  const namespace = randomNamespace()
  const { record, settle, readAll } = startProcess(t, { enabled: false })
  await record(namespace, 'order', { kind: 'attempt', attempt_number: 2, event_id: 'a' })
  await record(namespace, 'order', { kind: 'blocked', reason: 'x', event_id: 'b' })
  const { reason } = await settle(namespace, 'order', { reason: 'retry', attempt: 1 })
  t.equal(reason, 'retry')
  t.same((await readAll(namespace)).job_types, {})
  t.equal(await cli('EXISTS', keys.retryMetrics(namespace, 'order'), keys.retryBudget(namespace, 'order')), 0)
})

const budget = { ratio: 0.2, min_per_second: 0.5, window_seconds: 10 }

/** Decides about the first attempts of so many jobs, on all processes at once; answers how many may retry. */
async function decideMany(processes: ReturnType<typeof startProcess>[], namespace: string, count: number, attempt = 1) {
  const decisions = Array.from({ length: count }, (_, job) =>
    processes[job % processes.length]!.settle(namespace, 'order', { reason: 'retry', attempt }),
  )
  return (await Promise.all(decisions)).filter(({ reason }) => reason === 'retry').length
}

t.test('the budget of the fleet is exact when four processes race for it', async (t) => {
  const namespace = randomNamespace()
  const processes = Array.from({ length: 4 }, () => startProcess(t, { budget }))
  t.equal(await decideMany(processes, namespace, 200, 2), 5, 'no first attempts: 0.5 a second for ten seconds')
  for (let job = 0; job < 100; job++) {
    processes[job % 4]!.recordLater(namespace, 'order', { kind: 'first_attempt', event_id: `job ${job}` })
  }
  await Promise.all(processes.map(({ flush }) => flush()))
  t.equal(await decideMany(processes, namespace, 200, 2), 20, 'a fifth of a hundred first attempts more')
  t.equal(await processes[0]!.budgetSpent(namespace, 'order'), true)
  const { totals, blocked_by_reason } = await processes[1]!.readOne(namespace, 'order')
  t.same([totals.attempts, blocked_by_reason], [25, { budget_exhausted: 375 }])
  await moveMs(10_000)
  t.equal(await processes[0]!.budgetSpent(namespace, 'order'), true, 'a window later the oldest slice still counts')
  await moveMs(1000)
  t.equal(await processes[0]!.budgetSpent(namespace, 'order'), false)
  t.equal(await decideMany(processes, namespace, 50, 2), 5)
})

t.test('every first attempt is told to the budget by its failure, and counts once whoever tells of it', async (t) => {
  const namespace = randomNamespace()
  const process = startProcess(t, { budget: { ...budget, ratio: 0.5, min_per_second: 0 } })
  const { record, settle, budgetSpent } = process
  t.equal(await decideMany([process], namespace, 40), 20)
  const effect_id = 'order_placement.ab'
  const decide = (event_id: string) =>
    settle(namespace, 'order', { reason: 'not_retryable', attempt: 1, effect_id, event_id })
  await decide('a')
  await record(namespace, 'order', { kind: 'first_attempt', event_id: effect_id })
  await decide('b')
  await record(namespace, 'order', { kind: 'attempt', attempt_number: 1, event_id: effect_id })
  t.equal(await budgetSpent(namespace, 'order'), true, 'one first attempt is worth half a retry')
  await decide('c')
  await settle(namespace, 'order', { reason: 'not_retryable', attempt: 1, event_id: 'another' })
  t.equal(await budgetSpent(namespace, 'order'), false, 'two are worth one')
  await record(namespace, 'order', { kind: 'attempt', attempt_number: 2 })
  t.equal(await budgetSpent(namespace, 'order'), true, 'an attempt from the second on is a retry, whoever decided it')
})

t.test('a budget follows its configuration, is kept per job type, and goes with its window', async (t) => {
  const namespace = randomNamespace()
  const small = startProcess(t, { budget: { ratio: 0, min_per_second: 1, window_seconds: 1 } })
  t.equal(await decideMany([small], namespace, 10, 2), 1)
  t.equal((await small.settle(namespace, 'another', { reason: 'retry', attempt: 2 })).reason, 'retry')
  const wider = startProcess(t, { budget: { ratio: 0, min_per_second: 1, window_seconds: 3 } })
  t.equal(await decideMany([wider], namespace, 10, 2), 3, 'another window begins anew')
  const remaining = Number(await cli('PTTL', keys.retryBudget(namespace, 'order')))
  t.ok(remaining > 3000 && remaining <= 3600, `${remaining} ms`)
  const off = startProcess(t)
  t.equal(await decideMany([off], namespace, 10, 2), 10, 'none by default')
  t.equal(await off.budgetSpent(namespace, 'order'), false)
})

t.test('a decision with the same event id is told what it was told first, and counts and takes once', async (t) => {
  const namespace = randomNamespace()
  const [one, two] = [startProcess(t, { budget }), startProcess(t, { budget })]
  const settle = (process: typeof one, event_id: string, reason: 'retry' | 'circuit_open' = 'retry') =>
    process.settle(namespace, 'order', { reason, attempt: 2, event_id })
  const first = await Promise.all([one, two, one, two].map((process) => settle(process, 'same')))
  t.same(first.filter(({ repeated }) => !repeated).length, 1)
  t.equal(await decideMany([one, two], namespace, 10, 2), 4, 'one of five was taken')
  t.same(await settle(two, 'same', 'circuit_open'), { reason: 'retry', repeated: true })
  t.same(await settle(two, 'late'), { reason: 'budget_exhausted', repeated: false })
  await moveMs(20_000)
  t.same(await settle(one, 'late'), { reason: 'budget_exhausted', repeated: true })
  t.same((await one.readOne(namespace, 'order')).totals, { attempts: 5, successes: 0, failures: 0, blocked: 7 })
})

t.test('the largest inputs keep a script below a millisecond of Lua', async (t) => {
  const namespace = randomNamespace()
  const { recordLater, flush, readOne } = startProcess(t, { budget })
  const recordBatch = (round: number) => {
    for (let event = 0; event < limits.retryBatchMax; event++) {
      const event_id = `event ${round}-${event}`
      recordLater(namespace, 'order', { kind: 'attempt', attempt_number: 10_000, event_id })
    }
    return flush()
  }
  await recordBatch(-1)
  const record = await scriptCost(cli, recordBatch)
  await readOne(namespace, 'order', 1440)
  const read = await scriptCost(cli, () => readOne(namespace, 'order', 1440))
  t.comment(`a batch ${record}, a read ${read}`)
  t.ok(record < 1, `a batch: ${record}`)
  t.ok(read < 1, `a read: ${read}`)
})
