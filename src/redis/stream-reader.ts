/** Waits for new entries of several streams. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'
import type { Store } from './client.ts'
import { connect, type StoreAddress } from './connection.ts'

/** Entries of one stream in order: id, then names and values in turn. */
export type StreamEntries = { key: string; entries: [id: string, fields: string[]][] }

/** Longer than the server blocks, so that only a hung one is given up. */
const patienceMs = limits.eventBlockMs + limits.storeCommandTimeoutMs

export type StreamReader = {
  /**
   * The entries after the id of each stream, at most `limits.eventPageMax` a stream; none after `limits.eventBlockMs`.
   * Rejects when Redis is lost; the next call connects anew. One call at a time.
   */
  read: (positions: ReadonlyMap<string, string>) => Promise<StreamEntries[]>
  /** What CLIENT UNBLOCK takes, so that a call under way looks at other streams; none where it looks often anyway. */
  clientId: () => string | undefined
  close: () => void
}

/** In a Cluster the streams lie on several servers, and one call cannot wait for all: it looks at each again and again. */
function createPollingReader(store: Store): StreamReader {
  async function look(positions: ReadonlyMap<string, string>): Promise<StreamEntries[]> {
    const count = String(limits.eventPageMax)
    const found = await Promise.all(
      [...positions].map(async ([key, after]) => ({
        key,
        entries: (await store.read('XRANGE', key, `(${after}`, '+', 'COUNT', count)) as StreamEntries['entries'],
      })),
    )
    return found.filter(({ entries }) => entries.length > 0)
  }
  return {
    async read(positions) {
      const end = performance.now() + limits.eventBlockMs
      for (;;) {
        const found = await look(positions)
        if (found.length > 0 || performance.now() > end) return found
        await sleep(limits.eventPollMs)
      }
    },
    clientId: () => undefined,
    close: () => undefined,
  }
}

/** A connection of its own, which exists only while somebody reads. */
function createBlockingReader(address: StoreAddress): StreamReader {
  let redis: Redis | undefined
  let clientId: string | undefined

  async function open(): Promise<Redis> {
    const connection = connect(address, 'effectonce-events', {
      patience: { commandMs: patienceMs, silentMs: patienceMs },
      lazyConnect: true,
      // Whoever reads tries again: what was missed meanwhile must be looked up first.
      retryStrategy: () => null,
      reconnectOnError: () => false,
    })
    connection.on('error', () => undefined)
    redis = connection
    await connection.connect()
    clientId = String(await connection.client('ID'))
    return connection
  }

  function close(): void {
    redis?.disconnect()
    redis = undefined
    clientId = undefined
  }

  return {
    async read(positions) {
      try {
        const connection = redis ?? (await open())
        const { eventPageMax: count, eventBlockMs: blockMs } = limits
        const names = [...positions.keys(), ...positions.values()]
        const reply = await connection.xread('COUNT', count, 'BLOCK', blockMs, 'STREAMS', ...names)
        return (reply ?? []).map(([key, entries]) => ({ key, entries }))
      } catch (error) {
        close()
        throw error
      }
    },
    clientId: () => clientId,
    close,
  }
}

export const createStreamReader = (address: StoreAddress, store: Store): StreamReader =>
  store.clustered ? createPollingReader(store) : createBlockingReader(address)
