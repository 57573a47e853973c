/**
 * Sends what nobody waits for: at once when nothing is under way, together behind it else. Bounded, and what is lost is
 * told, never thrown.
 */
import { limits } from '../limits.ts'

export type QueueDependencies<Item> = {
  send: (namespace: string, jobType: string, items: Item[]) => Promise<unknown>
  /** `cause` is an error, or undefined where the queue was full. */
  lost: (count: number, cause: unknown) => void
}

type Group<Item> = { namespace: string; jobType: string; items: Item[] }

/** One queue of a process; at most `limits.retryQueueMax` items wait, `limits.retryBatchMax` of a job type go together. */
export function createQueue<Item>({ send, lost }: QueueDependencies<Item>) {
  const groups = new Map<string, Group<Item>>()
  let waiting = 0
  let running: Promise<void> | undefined
  let flushing = false

  function take(): Group<Item> | undefined {
    const [key, group] = groups.entries().next().value ?? []
    if (key === undefined || !group) return undefined
    groups.delete(key)
    const items = group.items.splice(0, limits.retryBatchMax)
    // What is left goes to the end, so that a busy job type does not hold up the others.
    if (group.items.length > 0) groups.set(key, group)
    waiting -= items.length
    return { ...group, items }
  }

  async function work(): Promise<void> {
    for (let group = take(); group; group = take()) {
      const { namespace, jobType, items } = group
      try {
        await send(namespace, jobType, items)
      } catch (error) {
        lost(items.length, error)
        if (flushing) dropAll(error)
      }
    }
    running = undefined
    flushing = false
  }

  function dropAll(cause: unknown): void {
    if (waiting > 0) lost(waiting, cause)
    groups.clear()
    waiting = 0
  }

  return {
    add: (namespace: string, jobType: string, items: readonly Item[]): void => {
      if (waiting + items.length > limits.retryQueueMax) return lost(items.length, undefined)
      const key = `${namespace}/${jobType}`
      const group = groups.get(key) ?? { namespace, jobType, items: [] }
      group.items.push(...items)
      groups.set(key, group)
      waiting += items.length
      running ??= work()
    },
    /** Resolves when nothing waits any more; from now on the first failure loses all that waits, so it ends soon. */
    flush: async (): Promise<void> => {
      flushing = running !== undefined
      await running
    },
  }
}
