import t from 'tap'
import { tellOfStore } from '../../src/events/store.ts'

t.test('trouble is told once, and its end once the store has been good for a second', async (t) => {
  const told: object[] = []
  let nowMs = 0
  const store = tellOfStore({ emit: (event) => void told.push(event) }, () => nowMs)
  store.answered()
  t.same(told, [])

  store.trouble('out_of_memory')
  for (nowMs = 100; nowMs < 3000; nowMs += 100) {
    store.answered()
    store.trouble('out_of_memory')
  }
  t.same(told, [{ event: 'store.trouble', reason: 'out_of_memory' }])

  store.answered()
  nowMs += 999
  store.answered()
  t.equal(told.length, 1)
  nowMs += 1
  store.answered()
  store.answered()
  t.same(told.slice(1), [{ event: 'store.recovered', silent_seconds: 3 }])

  store.trouble('unavailable')
  t.same(told.slice(2), [{ event: 'store.trouble', reason: 'unavailable' }])
})
