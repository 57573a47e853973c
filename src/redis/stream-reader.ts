/** Waits for new entries of several streams on one connection of its own, which exists only while somebody reads. */
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'
import { connect, type StoreAddress } from './client.ts'

/** Entries of one stream in order: id, then names and values in turn. */
export type StreamEntries = { key: string; entries: [id: string, fields: string[]][] }

/** Longer than the server blocks, so that only a hung one is given up. */
const patienceMs = limits.eventBlockMs + limits.storeCommandTimeoutMs

export function createStreamReader(address: StoreAddress) {
  let redis: Redis | undefined
  let clientId: string | undefined

  async function open(): Promise<Redis> {
    const connection = connect(address, 'effectonce-events', {
      commandTimeout: patienceMs,
      socketTimeout: patienceMs,
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
    /**
     * The entries after the id of each stream, at most `limits.eventPageMax` a stream; none after `limits.eventBlockMs`.
     * Rejects when the connection is lost; the next call connects anew. One call at a time.
     */
    async read(positions: ReadonlyMap<string, string>): Promise<StreamEntries[]> {
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
    /** What CLIENT UNBLOCK takes, so that a call under way looks at other streams. */
    clientId: () => clientId,
    close,
  }
}

export type StreamReader = ReturnType<typeof createStreamReader>
