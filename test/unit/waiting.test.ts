/** Who waits, and when it asks again: what no race of processes shows for sure. */
import t from 'tap'
import { createWaiting } from '../../src/effects/waiting.ts'
import { Problem } from '../../src/problems.ts'

const caller = { gone: () => false, whenGone: () => undefined, waited: () => undefined }
const inProgress = new Problem('effect-in-progress', 'held', { lease_remaining_seconds: 100 })
const soon = () => performance.now() + 200

t.test('what ends between the sending of a claim and its answer is asked for again', async (t) => {
  const waiting = createWaiting(() => undefined)
  const waiter = waiting.join('key', caller)
  waiter?.begins()
  waiting.heard('key')
  waiter?.met(inProgress)
  t.equal(await waiter?.park(soon()), 'ask', 'the mark that it left may have been taken already')
  waiter?.begins()
  waiter?.met(inProgress)
  t.equal(await waiter?.park(soon()), 'over', 'a mark that stands is waited for')
  waiter?.leave(undefined)
  t.equal(waiting.count(), 0)
})
