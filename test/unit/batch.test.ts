/** Operations of many calls: few at a time, in turn, and each answered in time whatever becomes of the others. */
import t from 'tap'
import { type BatchOperation, createBatches } from '../../src/effects/batch.ts'
import { limits } from '../../src/limits.ts'
import { Problem } from '../../src/problems.ts'

const half = limits.batchUnderWayMax / 2

/** Operations that last until they are let go, and how many are under way. */
function scene() {
  const run = createBatches()
  const underWay = new Set<() => void>()
  let most = 0
  const begun: string[] = []
  const operation = (name: string): BatchOperation<string> => ({
    on: undefined,
    run: () =>
      new Promise((resolve) => {
        begun.push(name)
        const end = () => {
          underWay.delete(end)
          resolve(name)
        }
        underWay.add(end)
        most = Math.max(most, underWay.size)
      }),
  })
  return {
    call: (name: string, count: number) => run(count, () => Array.from({ length: count }, () => operation(name))),
    /** Ends what is under way, until nothing more begins. */
    async endAll(): Promise<void> {
      for (let idle = 0; idle < 20; idle++) {
        if (underWay.size > 0) idle = 0
        for (const end of underWay) end()
        await Promise.resolve()
      }
    },
    most: () => most,
    begun: () => [...new Set(begun)],
  }
}

t.test('no more are under way than may be, and the calls come in turn', async (t) => {
  const { call, endAll, most, begun } = scene()
  const names = ['a', 'b', 'c', 'd', 'e']
  const calls = names.map((name) => call(name, half))
  await Promise.resolve()
  t.strictSame(begun(), ['a', 'b'], 'two of them are half each')
  await endAll()
  const answers = await Promise.all(calls)
  t.strictSame(begun(), names)
  t.equal(most(), limits.batchUnderWayMax)
  for (const [at, answered] of answers.entries()) {
    t.ok(answered.length === half && answered.every((one) => one.status === 'fulfilled' && one.value === names[at]))
  }
})

t.test('a call that is larger than that has its turn alone', async (t) => {
  const { call, endAll, begun } = scene()
  const calls = [call('small', 1), call('large', limits.batchUnderWayMax + 1), call('last', 1)]
  await Promise.resolve()
  t.strictSame(begun(), ['small'])
  await endAll()
  t.strictSame(
    (await Promise.all(calls)).map(({ length }) => length),
    [1, limits.batchUnderWayMax + 1, 1],
  )
  t.strictSame(begun(), ['small', 'large', 'last'])
})

t.test('a call of nothing is answered with nothing', async (t) => {
  const { call } = scene()
  t.strictSame(await call('none', 0), [])
})

t.test('what hangs keeps nobody else waiting, and is told as unknown', async (t) => {
  const { call, endAll, begun } = scene()
  const startMs = performance.now()
  const hung = call('hung', limits.batchUnderWayMax)
  const other = call('other', 1)
  await new Promise((resolve) => setTimeout(resolve, limits.batchTurnMs + 50))
  t.strictSame(begun(), ['hung', 'other'])
  const [answer] = await hung
  t.ok(performance.now() - startMs < limits.handlerDeadlineMs, 'in time to be told')
  const reason = answer?.status === 'rejected' && answer.reason instanceof Problem && answer.reason.members['reason']
  t.equal(reason, 'outcome_unknown')
  await endAll()
  await other
})
