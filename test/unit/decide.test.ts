/** The retry decision as a pure function: the order of its reasons, its waits, and what callers see of it. */
import t from 'tap'
import {
  adviseFor,
  type BackoffPolicy,
  backoffSeconds,
  decideRetry,
  describeDecision,
  type RetryQuestion,
} from '../../src/retries/decide.ts'
import { secondsUntil } from '../../src/instant.ts'

const policy: BackoffPolicy = {
  cooldown_seconds: 60,
  exponential_backoff: true,
  max_cooldown_seconds: 3600,
  jitter: 'none',
}
const question: RetryQuestion = {
  attempt: 1,
  maxAttempts: 3,
  execution: 'no',
  retryable: true,
  hold: true,
  circuitOpen: false,
  holdSeconds: 0,
  budgetExhausted: false,
  retryAfterSeconds: null,
  backoff: policy,
  random: 0.5,
}
const reasonOf = (members: Partial<RetryQuestion>) => decideRetry({ ...question, ...members }).reason

t.test('each reason hides the ones behind it', async (t) => {
  const obstacles: [Partial<RetryQuestion>, string][] = [
    [{ execution: 'unknown' }, 'reconcile_first'],
    [{ retryable: false }, 'not_retryable'],
    [{ attempt: 3 }, 'attempts_exhausted'],
    [{ circuitOpen: true }, 'circuit_open'],
    [{ budgetExhausted: true }, 'budget_exhausted'],
  ]
  for (const [at, [, reason]] of obstacles.entries()) {
    const remaining = Object.assign({}, ...obstacles.slice(at).map(([members]) => members)) as Partial<RetryQuestion>
    t.equal(reasonOf(remaining), reason)
  }
  t.equal(reasonOf({}), 'retry')
})

t.test('what happened, wholly or by half, is reconciled first in any case; doubt only under hold', async (t) => {
  for (const hold of [true, false]) {
    t.equal(reasonOf({ execution: 'yes', hold }), 'reconcile_first')
    t.equal(reasonOf({ execution: 'partial', hold }), 'reconcile_first')
    t.equal(reasonOf({ execution: 'unknown', hold }), hold ? 'reconcile_first' : 'retry')
    t.equal(reasonOf({ execution: 'no', hold }), 'retry')
  }
})

t.test('the last attempt is the one whose number is max_attempts', async (t) => {
  t.equal(reasonOf({ attempt: 2 }), 'retry')
  t.equal(reasonOf({ attempt: 3 }), 'attempts_exhausted')
  t.equal(reasonOf({ attempt: 1, maxAttempts: 1 }), 'attempts_exhausted')
  const left = (attempt: number) => decideRetry({ ...question, attempt }).attempts_left
  t.same([1, 2, 3, 4].map(left), [2, 1, 0, 0], 'never below 0')
})

t.test('the wait doubles from the cooldown to the cap, however large the attempt', async (t) => {
  const wait = (attempt: number, own: Partial<BackoffPolicy> = {}) =>
    backoffSeconds({ ...policy, ...own }, attempt, null, 0)
  t.same([1, 2, 3, 6, 7, 10_000].map((attempt) => wait(attempt)), [60, 120, 240, 1920, 3600, 3600]) // prettier-ignore
  t.same([1, 2, 9].map((attempt) => wait(attempt, { exponential_backoff: false })), [60, 60, 60]) // prettier-ignore
  t.equal(wait(1, { cooldown_seconds: 5000 }), 3600, 'the cap holds for the first wait too')
  t.equal(wait(10_000, { cooldown_seconds: 0 }), 0)
})

t.test('jitter takes from the wait: all of it, or half', async (t) => {
  const wait = (jitter: BackoffPolicy['jitter'], random: number) =>
    backoffSeconds({ ...policy, jitter }, 2, null, random)
  t.same([0, 0.5, 0.999].map((random) => wait('none', random)), [120, 120, 120]) // prettier-ignore
  t.same([0, 0.5, 0.999].map((random) => wait('full', random)), [0, 60, 119.88]) // prettier-ignore
  t.same([0, 0.5, 0.999].map((random) => wait('equal', random)), [60, 90, 119.94]) // prettier-ignore
})

t.test('what the exchange asks for is the least, above the cap too', async (t) => {
  t.equal(backoffSeconds(policy, 1, 59, 0), 60)
  t.equal(backoffSeconds(policy, 1, 61.5, 0), 61.5)
  t.equal(backoffSeconds(policy, 1, 86_400, 0), 86_400)
  t.equal(backoffSeconds({ ...policy, jitter: 'full' }, 1, 30, 0), 30, 'jitter does not take from it')
})

t.test('a hold refuses no retry, it makes it wait for its end', async (t) => {
  const waiting = (members: Partial<RetryQuestion>) => decideRetry({ ...question, ...members })
  t.match(waiting({ holdSeconds: 59.5 }), { retry: true, reason: 'retry', wait_seconds: 60 }, 'the cooldown is longer')
  t.match(waiting({ holdSeconds: 900.001 }), { retry: true, wait_seconds: 900.001 })
  t.match(waiting({ holdSeconds: 900, retryAfterSeconds: 901 }), { wait_seconds: 901 }, 'what was asked for is longer')
  t.match(waiting({ holdSeconds: 900, circuitOpen: true }), { reason: 'circuit_open', wait_seconds: null })
  const nowMs = Date.parse('2026-11-23T21:08:41.123Z')
  t.same([0, nowMs - 1, nowMs, nowMs + 1].map((ms) => secondsUntil(ms, nowMs - 0.4)), [0, 0, 0.001, 0.002]) // prettier-ignore
})

t.test('without a retry there is no wait, and with one its end is told', async (t) => {
  const classification = { failure_type: 'RATE_LIMIT' } as Parameters<typeof describeDecision>[1]
  const nowMs = Date.parse('2026-11-23T21:08:41.123Z')
  const no = describeDecision(adviseFor('circuit_open', question), classification, nowMs, 'open')
  t.same(no, {
    ...{ retry: false, reason: 'circuit_open', wait_seconds: null, attempts_left: 2 },
    ...{ not_before: null, classification, breaker: { state: 'open' } },
  })
  const yes = describeDecision(adviseFor('retry', { ...question, attempt: 2 }), classification, nowMs + 0.4, 'closed')
  t.match(yes, { retry: true, wait_seconds: 120, attempts_left: 1, not_before: '2026-11-23T21:10:41.124Z' })
})
