/** The goals of the project, each computed from the figures of one run. */
import { spread } from './statistics.mjs'

/** Ratios of rounds that stood beside each other; a contender that has no windows gives an empty spread. */
function ratioOf(results, one, other, member) {
  const of = (name) => results.contenders[name]?.windows ?? []
  const rounds = Math.min(of(one).length, of(other).length)
  return spread(Array.from({ length: rounds }, (_, at) => of(one)[at][member] / of(other)[at][member]))
}

const exactly = (value) => spread(value === undefined ? [] : [value])
const part = (results, name) => results.parts[name]?.value

function ratioAtFew(results) {
  const windows = part(results, 'few')
  if (windows === undefined) return spread([])
  return spread(windows.single.map(({ p50 }, at) => p50 / (windows.hand[at]?.p50 ?? NaN)))
}

/** Of windows that were measured one after the other. */
function gainOfTwo(results) {
  const windows = part(results, 'processes')?.windows
  if (windows === undefined) return spread([])
  return spread(windows[2].map(({ effectsPerSecond }, at) => effectsPerSecond / windows[1][at].effectsPerSecond))
}

const bytes = (results) => part(results, 'bytes')
const lastMebibytes = (results) => part(results, 'memory')?.at(-1)?.mebibytes

/** Growth of the second half of a million effects over the first half's: 1 is flat. */
function flatness(results) {
  const points = part(results, 'memory')
  if (points === undefined || points.length < 5) return undefined
  return points[4].mebibytes / points[2].mebibytes
}

/** `limit`: at most (`<=`) or at least (`>=`) `goal`. */
const goals = [
  {
    measure: 'server CPU per single claim or complete ÷ bare Fastify POST',
    ...{ limit: '<=', goal: 1.15 },
    reached: (results) => ratioOf(results, 'single', 'bare-fastify', 'serverMicrosecondsPerRequest'),
  },
  {
    measure: 'effects/s over single-key HTTP ÷ node-idempotency, no fsync',
    ...{ limit: '>=', goal: 1 },
    reached: (results) => ratioOf(results, 'single', 'node-idempotency', 'effectsPerSecond'),
  },
  {
    measure: 'effects/s over single-key HTTP ÷ node-idempotency, `always`',
    ...{ limit: '>=', goal: 1 },
    reached: (results) => ratioOf(results, 'always', 'node-idempotency-always', 'effectsPerSecond'),
  },
  {
    measure: 'duplicates/s ÷ node-idempotency',
    ...{ limit: '>=', goal: 1.75 },
    reached: (results) => ratioOf(results, 'duplicates', 'node-idempotency-duplicates', 'effectsPerSecond'),
  },
  {
    measure: 'effects/s ÷ Restate with one durable step, both fsynced',
    ...{ limit: '>=', goal: 12 },
    reached: (results) => ratioOf(results, 'always', 'restate', 'effectsPerSecond'),
  },
  {
    measure: 'Redis CPU per effect ÷ hand-written `SET NX` + `SET`',
    ...{ limit: '<=', goal: 0.5 },
    reached: (results) => ratioOf(results, 'single', 'hand', 'redisMicrosecondsPerEffect'),
  },
  {
    measure: 'Redis CPU per effect in batch ÷ hand-written `SET NX` + `SET`',
    ...{ limit: '<=', goal: 0.25 },
    reached: (results) => ratioOf(results, 'batch', 'hand', 'redisMicrosecondsPerEffect'),
  },
  {
    measure: 'batch claims/s over HTTP ÷ raw single-key EVALSHA pipelined by 16',
    ...{ limit: '>=', goal: 2 },
    reached: (results) => ratioOf(results, 'batch-claims', 'raw-evalsha', 'effectsPerSecond'),
  },
  {
    measure: 'effects/s of two processes ÷ one, each bounded to the same share of a processor',
    ...{ limit: '>=', goal: 1.8 },
    reached: gainOfTwo,
  },
  {
    measure: 'bytes in Redis per completed effect ÷ a bare `SET` of its result with TTL',
    ...{ limit: '<=', goal: 1.3 },
    reached: (results) => exactly(bytes(results) && bytes(results).ours / bytes(results).short),
  },
  {
    measure: 'claim p50 at 2 connections ÷ hand-written',
    ...{ limit: '<=', goal: 1 },
    reached: ratioAtFew,
  },
  {
    measure: 'memory of the service after the effects of this run, MiB',
    ...{ limit: '<=', goal: 200 },
    reached: (results) => exactly(lastMebibytes(results)),
  },
  {
    measure: 'the same, at the end ÷ half-way (flat: about 1)',
    ...{ limit: '<=', goal: 1.1 },
    reached: (results) => exactly(flatness(results)),
  },
  {
    measure: 'memory of the service with the waiters of this run, MiB',
    ...{ limit: '<=', goal: 200 },
    reached: (results) => exactly(part(results, 'waiters')?.waiting),
  },
]

/** Answers [{measure, goal, reached (a spread), verdict}] in the order of the list. */
export function judge(results) {
  return goals.map(({ measure, limit, goal, reached }) => {
    const found = reached(results)
    return {
      measure,
      goal: `${limit === '<=' ? '≤' : '≥'} ${goal}`,
      reached: found,
      verdict: verdictOf(found, limit, goal),
    }
  })
}

function verdictOf({ median, rounds }, limit, goal) {
  if (rounds === 0) return 'not measured'
  const met = limit === '<=' ? median <= goal : median >= goal
  const percent = (Math.abs(median / goal - 1) * 100).toFixed(0)
  return met ? `met, ${percent} % to spare` : `**missed by ${percent} %**`
}
