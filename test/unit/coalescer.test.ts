/** Who goes out together with others is answered as if alone: nobody is lost, and nobody gets another's answer. */
import t from 'tap'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createCoalescer } from '../../src/redis/coalescer.ts'
import { defineScript, type ScriptCall } from '../../src/redis/scripts.ts'
import { limits } from '../../src/limits.ts'

const definition = defineScript({
  ...{ name: 'effect-claim', flags: [], keys: ['effect', 'inflight'], args: ['owner'], coalesced: true },
  decode: (reply) => reply,
})
const callOf = (index: number): ScriptCall => ({
  ...{ definition, keys: [`{${index % 3}}effect-${index}`, `{${index % 3}}inflight`], values: [`bot-${index}`] },
})
const ownersOf = ({ values }: ScriptCall): string[] => values.map(String)

/** Asks for everything at once of a store that answers one script after the other, the newest first if `backwards`. */
async function askAll(count: number, oneSlot: boolean, backwards: boolean) {
  const sent: { call: ScriptCall; answer: () => void }[] = []
  const batches: ScriptCall[] = []
  const send = (call: ScriptCall) =>
    new Promise((resolve) => {
      batches.push(call)
      sent.push({ call, answer: () => resolve(ownersOf(call)) })
    })
  const ask = createCoalescer(send, oneSlot)
  const answers: unknown[] = Array.from({ length: count }, () => 'no answer')
  for (let index = 0; index < count; index++) void ask(callOf(index)).then((answer) => (answers[index] = answer))
  for (await nextTurn(); sent.length > 0; await nextTurn()) {
    const next = backwards ? sent.pop() : sent.shift()
    next?.answer()
  }
  return { answers, batches }
}

t.test('each is answered its own, however many wait, and in whatever order the scripts are answered', async (t) => {
  for (const count of [
    1,
    2,
    limits.coalesceItemsMax + 1,
    (limits.coalesceFullUnderWayMax + 3) * limits.coalesceItemsMax + 7,
  ]) {
    for (const [oneSlot, backwards] of [
      [false, false],
      [false, true],
      [true, true],
    ] as const) {
      const { answers, batches } = await askAll(count, oneSlot, backwards)
      t.same(
        answers,
        Array.from({ length: count }, (_, index) => `bot-${index}`),
      )
      t.ok(batches.every((call) => ownersOf(call).length <= limits.coalesceItemsMax))
      t.equal(batches.flatMap(ownersOf).length, count, 'none is sent twice')
    }
  }
})

t.test('in a Cluster one script stays in one slot', async (t) => {
  const { batches } = await askAll(100, true, false)
  for (const { keys } of batches) t.equal(new Set(keys.map((key) => key.slice(0, 3))).size, 1)
})
