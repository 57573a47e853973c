/** What is told again without asking: never of another effect or payload, never for long, never much. */
import t from 'tap'
import { setTimeout as passes } from 'node:timers/promises'
import type { EffectRecord } from '../../src/effects/record.ts'
import { createReplays } from '../../src/effects/replays.ts'
import { limits } from '../../src/limits.ts'
import { createClock, type RedisClock } from '../../src/redis/clock.ts'

const record = (changes: Partial<EffectRecord> = {}): EffectRecord => ({
  ...{ state: 'completed', policy: 'hold', doubt: false, earlierDoubt: false, attempt: 1, token: 7 },
  ...{ createdAt: 0, updatedAt: Date.now(), claimedAt: 0, leaseExpiresAt: 0, notBefore: 0, leaseMs: 1000 },
  ...{ retentionMs: 60_000, owner: 'bot', pastClaims: 0, ended: 'complete', fingerprint: '', jobType: '' },
  ...{ durability: 'primary', metadata: '', entity: '', body: '{"order":1}', ...changes },
})

/** Redis's clock, so much ahead of ours. */
function clockAhead(ms: number): RedisClock {
  const clock = createClock({ us: 0 }, Infinity)
  clock.saw((Date.now() + ms) * 1000, performance.now())
  return clock
}
const clock = clockAhead(0)

function scene() {
  const { keep, find, forget } = createReplays()
  return {
    forget,
    keep: (key: string, changes?: Partial<EffectRecord>, askedMs = performance.now()) =>
      keep(key, record(changes), askedMs),
    find: (key: string, fingerprint = '', at = clock) => find({ key, fingerprint, clock: at })?.body,
  }
}

t.test('an effect is told its own result', async (t) => {
  const { keep, find } = scene()
  keep('a', { body: '1' })
  keep('b', { body: '2' })
  t.strictSame([find('a'), find('b'), find('c')], ['1', '2', undefined])
})

t.test('another payload is for Redis to judge', async (t) => {
  const { keep, find } = scene()
  keep('a', { fingerprint: 'sone' })
  t.ok(find('a', 'sone'))
  t.ok(find('a'), 'a claim without one')
  t.notOk(find('a', 'sother'))
  keep('b')
  t.ok(find('b', 'sother'), 'a record without one')
})

t.test('nothing is told of an effect with claims that have ended: one of them may come again', async (t) => {
  const { keep, find } = scene()
  keep('a', { pastClaims: 1 })
  t.notOk(find('a'))
})

t.test('nothing is told for longer than a moment, counted from the question', async (t) => {
  const { keep, find } = scene()
  keep('asked long ago', {}, performance.now() - limits.replayMs)
  t.notOk(find('asked long ago'))
  keep('asked before', {}, performance.now() - limits.replayMs + 50)
  const untilMs = performance.now() + 50
  while (performance.now() < untilMs) await passes(10)
  t.notOk(find('asked before'))
})

t.test('nothing is told beyond the retention', async (t) => {
  const { keep, find } = scene()
  keep('a', { retentionMs: 5000 })
  t.ok(find('a'))
  t.notOk(find('a', '', clockAhead(6000)))
})

t.test('what is deleted is told no more, nor what was asked before that', async (t) => {
  const { keep, find, forget } = scene()
  const before = performance.now()
  keep('a')
  keep('b')
  forget('a')
  t.notOk(find('a'))
  t.ok(find('b'))
  keep('a', {}, before)
  t.notOk(find('a'), 'a question that was under way')
  keep('a', {}, performance.now() + 0.001)
  t.ok(find('a'), 'a later one')
})

t.test('it stays small: the oldest go first', async (t) => {
  const { keep, find } = scene()
  for (let index = 0; index <= limits.replaysMax; index++) keep(`key-${index}`)
  t.notOk(find('key-0'))
  t.ok(find('key-1'))
  t.ok(find(`key-${limits.replaysMax}`))

  const large = scene()
  const body = 'x'.repeat(limits.replayCharsMax)
  const fit = Math.floor(limits.replaysCharsMax / (body.length + 'key-000'.length))
  for (let index = 0; index <= fit; index++) large.keep(`key-${String(index).padStart(3, '0')}`, { body })
  t.notOk(large.find('key-000'))
  t.ok(large.find('key-001'))
  large.keep('too large', { body: `${body}x` })
  t.notOk(large.find('too large'))
})
