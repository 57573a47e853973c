/**
 * The stream of events as server-sent events, for any number of readers on one connection to Redis. A reader first reads
 * pages of the stream at its own pace; once it has caught up it is handed what the connection brings. One that falls
 * behind goes back to pages, so what waits for it in memory is bounded, and nothing is lost to it.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import type { Store } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import type { StreamReader } from '../redis/stream-reader.ts'
import { decodeStreamEvent, type EventPage, eventPage, type StreamEvent } from './scripts.ts'

export type EventFeedOptions = {
  store: Store
  keys: Keys
  tail: StreamReader
  log: Logger
  /** Default 15 s. */
  heartbeatMs?: number
  /** A reader that takes nothing for so long is let go; default 30 s. */
  stuckMs?: number
}

type Reader = {
  namespace: string
  /** The last event that it was sent, `''` before the first page. */
  position: string
  /** Sends text; false when so much waits that it should come no further. */
  send: (text: string) => boolean
  /** When what waits has gone; ends the reader if it takes nothing for too long. */
  drained: () => Promise<void>
  /** Ends its turn among those who have caught up. */
  wake: () => void
  /** Ends the stream behind what still waits. */
  end: () => void
  stream: Readable
}

/** Those of a namespace who have caught up, and how far the connection has read for them. */
type Group = { position: string; deliveries: number; readers: Set<Reader> }

/** Whether event id `a` comes after `b`. */
function isAfter(a: string, b: string): boolean {
  const [aMs = 0, aNumber = 0] = a.split('-').map(Number)
  const [bMs = 0, bNumber = 0] = b.split('-').map(Number)
  return aMs === bMs ? aNumber > bNumber : aMs > bMs
}

const iso = (ms: number): string => new Date(ms).toISOString()

function factsOf(data: string): object {
  try {
    return JSON.parse(data) as object
  } catch {
    return {}
  }
}

/** One event as it is sent: its id for `Last-Event-ID`, its name, its data. */
function eventText({ id, event, at, data }: StreamEvent): string {
  const named = { event, at: iso(at) }
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify({ ...named, ...factsOf(data), ...named })}\n\n`
}

/** Tells a reader that events after `after` are gone; the next event tells how far. */
const gapText = (nowMs: number, after: string): string =>
  `event: gap\ndata: ${JSON.stringify({ event: 'gap', at: iso(nowMs), after })}\n\n`

/** The first bytes: who has them hears of everything from then on. They tell after how long to come back. */
const greeting = `retry: ${limits.eventClientRetryMs}\n\n`

function createReader(namespace: string, position: string, stuckMs: number): Reader {
  let onRead = (): void => undefined
  let ended = false
  const stream = new Readable({ highWaterMark: limits.eventReaderBytesMax, read: () => onRead() })
  const reader: Reader = {
    ...{ namespace, position, stream },
    wake: () => undefined,
    send: (text) => ended || stream.destroyed || text === '' || stream.push(text),
    end() {
      ended = true
      stream.push(null)
      reader.wake()
    },
    async drained() {
      if (stream.destroyed || stream.readableLength < limits.eventReaderBytesMax) return
      const timer = setTimeout(() => stream.destroy(), stuckMs)
      await new Promise<void>((resolve) => (onRead = resolve))
      clearTimeout(timer)
    },
  }
  // No promise of its end: each wait would leave a reaction on it, for as long as somebody reads.
  stream.once('close', () => {
    onRead()
    reader.wake()
  })
  return reader
}

const pause = () => sleep(limits.eventRetryMs, undefined, { ref: false })

function deliver(group: Group, events: readonly StreamEvent[]): void {
  group.position = events.at(-1)?.id ?? group.position
  group.deliveries++
  const texts = events.map(({ id, ...event }) => ({ id, text: eventText({ id, ...event }) }))
  for (const reader of [...group.readers]) {
    const fresh = texts.filter(({ id }) => isAfter(id, reader.position))
    reader.position = fresh.at(-1)?.id ?? reader.position
    if (!reader.send(fresh.map(({ text }) => text).join(''))) reader.wake()
  }
}

/** Reads once for everybody who has caught up. */
async function readOnce({ keys, tail }: Pick<EventFeedOptions, 'keys' | 'tail'>, groups: ReadonlyMap<string, Group>) {
  const byKey = new Map([...groups].map(([namespace, group]) => [keys.events(namespace), group]))
  const positions = new Map([...byKey].map(([key, { position }]) => [key, position]))
  for (const { key, entries } of await tail.read(positions)) deliver(byKey.get(key)!, entries.map(decodeStreamEvent))
}

/** The readers who have caught up, by namespace, and the one connection that reads for them. */
function createTail({ store, keys, tail, log }: EventFeedOptions) {
  const groups = new Map<string, Group>()
  let running = false
  let closed = false

  /** While anybody listens. After trouble everybody goes back to pages, which tell what was missed. */
  async function run(): Promise<void> {
    running = true
    while (groups.size > 0 && !closed) {
      try {
        await readOnce({ keys, tail }, groups)
      } catch (error) {
        log.debug({ err: error }, 'the event stream could not be read')
        await pause()
        for (const group of [...groups.values()]) for (const reader of [...group.readers]) reader.wake()
      }
    }
    running = false
    tail.close()
  }

  function groupOf({ namespace, position }: Reader): Group {
    const known = groups.get(namespace)
    if (known) return known
    const group: Group = { position, deliveries: 0, readers: new Set() }
    groups.set(namespace, group)
    // It waits for the streams that it was told of: let it look at this one too.
    const blocked = tail.clientId()
    if (running && blocked !== undefined) store.call('CLIENT', 'UNBLOCK', blocked).catch(() => undefined)
    return group
  }

  return {
    /** Changes with everything that is delivered to the namespace. */
    deliveries: (namespace: string): number | undefined => groups.get(namespace)?.deliveries,
    /** Resolves when the reader must read pages again, or is gone. */
    listen(reader: Reader): Promise<void> {
      const group = groupOf(reader)
      group.readers.add(reader)
      if (!running) void run()
      return new Promise((resolve) => {
        reader.wake = () => {
          group.readers.delete(reader)
          if (group.readers.size === 0 && groups.get(reader.namespace) === group) groups.delete(reader.namespace)
          resolve()
        }
      })
    },
    close(): void {
      closed = true
      tail.close()
    },
  }
}

function sendPage(reader: Reader, { gap, nowMs, lastId, entries }: EventPage): void {
  const first = reader.position === ''
  const told = (first ? greeting : '') + (gap ? gapText(nowMs, reader.position) : '')
  reader.position = entries.at(-1)?.id ?? (gap || first ? lastId : reader.position)
  reader.send(told + entries.map(eventText).join(''))
}

/** Not in front of the greeting, nor behind what waits anyway. */
function beat(readers: ReadonlySet<Reader>): void {
  for (const { stream, position, send } of readers) {
    if (position !== '' && stream.readableLength === 0) send(': heartbeat\n\n')
  }
}

export function createEventFeed(options: EventFeedOptions) {
  const { store, keys, log, heartbeatMs = limits.eventHeartbeatMs, stuckMs = limits.eventReaderStuckMs } = options
  const readers = new Set<Reader>()
  const tail = createTail(options)
  let heartbeat: NodeJS.Timeout | undefined
  let closed = false

  /** Reads pages until nothing is left, then listens; the step from one to the other is taken at once. */
  async function follow(reader: Reader): Promise<void> {
    for (;;) {
      await reader.drained()
      const before = tail.deliveries(reader.namespace)
      const request = { after: reader.position, count: limits.eventPageMax }
      const page = await store.run(eventPage, [keys.events(reader.namespace)], request)
      if (closed || reader.stream.destroyed) return
      sendPage(reader, page)
      if (page.entries.length === 0 && tail.deliveries(reader.namespace) === before) return tail.listen(reader)
    }
  }

  async function serve(reader: Reader): Promise<void> {
    while (!closed && !reader.stream.destroyed) {
      try {
        await follow(reader)
      } catch (error) {
        log.debug({ err: error }, 'a reader of events waits for the store')
        await pause()
      }
    }
    readers.delete(reader)
    if (readers.size === 0) clearInterval(heartbeat)
  }

  return {
    /** Text of the stream from behind `lastEventId`, or from now on. It ends when the service drains. */
    open(namespace: string, lastEventId: string | undefined): Readable {
      const reader = createReader(namespace, lastEventId ?? '', stuckMs)
      if (readers.size === 0) {
        clearInterval(heartbeat)
        heartbeat = setInterval(() => beat(readers), heartbeatMs)
        heartbeat.unref()
      }
      readers.add(reader)
      if (lastEventId !== undefined) reader.send(greeting)
      if (closed) reader.end()
      void serve(reader)
      return reader.stream
    },
    readers: (): number => readers.size,
    /** Ends every stream; a reader comes back to another process with its `Last-Event-ID`. */
    close(): void {
      closed = true
      clearInterval(heartbeat)
      for (const reader of readers) reader.end()
      tail.close()
    },
  }
}

export type EventFeed = ReturnType<typeof createEventFeed>
