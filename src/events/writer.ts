/**
 * Writes emitted events into the streams of their namespaces: in order, once each, a moment after the request that they
 * belong to and whatever becomes of it. While Redis is away they wait, and the oldest go first when there are too many.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import type { Store } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import type { Events, ServiceEvent } from './events.ts'
import { eventAdd } from './scripts.ts'

export type EventWriterOptions = {
  store: Store
  keys: Keys
  events: Events
  /** Every configured namespace: they all hear of what concerns the whole store. */
  namespaces: readonly string[]
  log: Logger
  /** Told how many events no stream will ever hold. */
  lost: (events: number) => void
}

type Waiting = { number: number; name: string; data: string; emittedMs: number }

/** Where an event goes, and as what; no namespace: to all. */
function partsOf({ event: name, ...members }: ServiceEvent): {
  namespace: string | undefined
  name: string
  data: string
} {
  const { namespace, ...facts } = { namespace: undefined, ...members }
  return { namespace, name, data: JSON.stringify(facts) }
}

/** One batch into one stream, with how long ago each was emitted. */
async function sendBatch(
  { store, keys }: Pick<EventWriterOptions, 'store' | 'keys'>,
  { namespace, sender }: { namespace: string; sender: string },
  batch: readonly Waiting[],
): Promise<void> {
  const nowMs = performance.now()
  const entries = batch.map((one) => [one.number, one.name, one.data, Math.round(nowMs - one.emittedMs)])
  await store.run(eventAdd, [keys.events(namespace), keys.eventSender(namespace, sender)], {
    entries: JSON.stringify(entries),
    sender_ms: limits.eventSenderMs,
  })
}

export function createEventWriter({ store, keys, events, namespaces, log, lost }: EventWriterOptions) {
  const sender = randomUUID()
  const queues = new Map<string, Waiting[]>()
  const senders = new Map<string, Promise<void>>()
  let number = 0
  let stopped = false

  function enqueue(namespace: string, name: string, data: string): void {
    const queue = queues.get(namespace) ?? []
    queues.set(namespace, queue)
    queue.push({ number: ++number, name, data, emittedMs: performance.now() })
    if (queue.length > limits.eventQueueMax) {
      queue.shift()
      lost(1)
    }
    if (senders.has(namespace)) return
    const sending = send(namespace, queue).finally(() => senders.delete(namespace))
    senders.set(namespace, sending)
  }

  /** Until the queue is empty. The number of each event makes a batch harmless that is sent again. */
  async function send(namespace: string, queue: Waiting[]): Promise<void> {
    while (queue.length > 0 && !stopped) {
      const batch = queue.slice(0, limits.eventBatchMax)
      try {
        await sendBatch({ store, keys }, { namespace, sender }, batch)
        const last = batch.at(-1)?.number ?? 0
        while (queue[0] && queue[0].number <= last) queue.shift()
      } catch (error) {
        log.debug({ err: error, namespace }, 'events wait for the store')
        await sleep(limits.eventRetryMs, undefined, { ref: false })
      }
    }
  }

  const unsubscribe = events.subscribe((event: ServiceEvent, recorded) => {
    if (recorded || stopped) return
    const { namespace, name, data } = partsOf(event)
    for (const each of namespace === undefined ? namespaces : [namespace]) enqueue(each, name, data)
  })

  /** When everything emitted so far has been written. */
  async function settled(): Promise<void> {
    await Promise.all(senders.values())
  }

  return {
    settled,
    /** Waits a moment for what is still to be written; the rest is counted as lost. */
    async stop(): Promise<void> {
      unsubscribe()
      await Promise.race([settled(), sleep(limits.storeDeadlineMs, undefined, { ref: false })])
      stopped = true
      const left = [...queues.values()].reduce((total, queue) => total + queue.length, 0)
      if (left > 0) lost(left)
    },
  }
}
