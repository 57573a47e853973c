/**
 * One operation on many effects costs Redis little more than on one: 9 µs of a call are the socket and the call itself. So
 * the scripts of one turn of the event loop go out at its end as one script over many keys, and those that come while two
 * are under way gather until one is answered: so Redis works while this process reads and writes. A full one does not wait
 * for them: one turn of the loop can bring thousands of calls, and 64 a turn was less than came in.
 */
import { limits } from '../limits.ts'
import { NotSentError } from './errors.ts'
import { slotPrefix } from './keys.ts'
import { type AnyScript, manyOf, type ScriptCall } from './scripts.ts'

type Item = { call: ScriptCall; sinceMs: number; resolve: (reply: unknown) => void; reject: (error: unknown) => void }

type Send = (call: ScriptCall) => Promise<unknown>

/** Takes what one script may hold from the front of the queue. */
function takeBatch(queue: Item[]): Item[] {
  let bytes = 0
  let count = 0
  for (const { call } of queue) {
    for (const value of call.values) bytes += typeof value === 'string' ? value.length : 8
    if (count > 0 && (count === limits.coalesceItemsMax || bytes > limits.coalesceBytesMax)) break
    count += 1
  }
  return queue.splice(0, count)
}

/** Behind a script that was not answered: refuses those that have waited as long as one may take, who may try again. */
function refuseOld(queue: Item[]): void {
  const oldest = performance.now() - limits.storeCommandTimeoutMs
  for (let first = queue[0]; first && first.sinceMs < oldest; first = queue[0]) {
    queue.shift()
    first.reject(new NotSentError('others were before it for too long'))
  }
}

/** In a Cluster one script stays in one slot: the items by their slot. */
function bySlot(items: readonly Item[]): Item[][] {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    const slot = slotPrefix(item.call.keys[0] ?? '')
    const group = groups.get(slot)
    if (group) group.push(item)
    else groups.set(slot, [item])
  }
  return [...groups.values()]
}

/** Whether the server answered. */
async function sendTogether(send: Send, definition: AnyScript, items: readonly Item[]): Promise<boolean> {
  const keys: string[] = []
  const values: (string | number)[] = []
  for (const { call } of items) {
    keys.push(...call.keys)
    values.push(...call.values)
  }
  try {
    const replies = (await send({ definition: manyOf(definition), keys, values })) as unknown[]
    items.forEach(({ resolve, reject }, index) => {
      const reply = replies[index]
      if (reply instanceof Error) reject(reply)
      else resolve(reply)
    })
    return true
  } catch (error) {
    for (const { reject } of items) reject(error)
    return false
  }
}

/** `send` sends one script to one server; `oneSlot`: whether a script must stay in one slot. */
export function createCoalescer(send: Send, oneSlot: boolean) {
  const queues = new Map<AnyScript, Item[]>()
  let underWay = 0
  let scheduled = false

  async function flush(definition: AnyScript, queue: Item[]): Promise<void> {
    const items = takeBatch(queue)
    if (queue.length === 0) queues.delete(definition)
    underWay += 1
    const groups = oneSlot ? bySlot(items) : [items]
    const answered = await Promise.all(groups.map((group) => sendTogether(send, definition, group)))
    underWay -= 1
    if (!answered.every(Boolean)) refuseAllOld()
    flushAll()
  }

  function refuseAllOld(): void {
    for (const [definition, queue] of queues) {
      refuseOld(queue)
      if (queue.length === 0) queues.delete(definition)
    }
  }

  function sendWhatIsFull(definition: AnyScript, queue: Item[]): void {
    const full = queue.length >= limits.coalesceItemsMax && underWay < limits.coalesceFullUnderWayMax
    if (full) void flush(definition, queue)
  }

  /** A definition that was served goes behind the others. */
  function flushAll(): void {
    scheduled = false
    for (const [definition, queue] of queues) sendWhatIsFull(definition, queue)
    for (const [definition, queue] of queues) {
      if (underWay >= limits.coalesceUnderWayMax) return
      queues.delete(definition)
      queues.set(definition, queue)
      void flush(definition, queue)
    }
  }

  return (call: ScriptCall): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const item = { call, sinceMs: performance.now(), resolve, reject }
      const queue = queues.get(call.definition)
      if (queue) queue.push(item)
      else queues.set(call.definition, [item])
      if (queue && queue.length >= limits.coalesceItemsMax) sendWhatIsFull(call.definition, queue)
      if (scheduled || underWay >= limits.coalesceUnderWayMax) return
      scheduled = true
      setImmediate(flushAll)
    })
}
