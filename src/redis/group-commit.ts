/**
 * Durability beyond the primary's memory. Scripts that must be on replicas, or on disk, before they are answered go out
 * together on a connection of their own, with one WAIT behind them: while it waits, the next ones gather.
 */
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'
import { stayConnected, type ServerAddress, type StoreAddress } from './connection.ts'
import { durableMark } from './durable-mark.ts'
import { askFileSettings, fsyncsFirst } from './fsync.ts'
import { parseInfo } from './info.ts'
import { durableMarkKey } from './keys.ts'
import type { ScriptCall, ScriptTexts } from './scripts.ts'
import { sendDigest, sendWhole } from './written-command.ts'

/** What an answer waits for: so many replicas have the write, or the primary's disk has. */
export type Commitment = 'fsynced' | { replicated: number }

/** How much must hold before a script counts as answered; `primary`: the server that takes writes has it in memory. */
export type Durability = 'primary' | Commitment

/** A script's reply, and whether what it asked for was reached within `limits.durableWaitMs`. */
export type Committed = { reply: unknown; reached: boolean }

type Item = {
  call: ScriptCall
  commitment: Commitment
  /** The server said that it does not know the script: its whole text goes with the next flush. */
  unknownScript: boolean
  resolve: (committed: Committed) => void
  reject: (error: unknown) => void
}

/**
 * Whether the disk of the primary has everything answered so far: with `always` an answer leaves the server behind its
 * fsync. WAITAOF tells no more than that, and less with `everysec`: from Redis 7.4 on, and in Valkey, it may answer before
 * any fsync. Source: redis/redis#13793.
 */
async function onDisk(redis: Redis): Promise<boolean> {
  const [settings, info] = await Promise.all([
    redis.call(...askFileSettings),
    redis.call('INFO', 'persistence') as Promise<string>,
  ])
  const state = parseInfo(info)
  return fsyncsFirst(settings) && state.get('aof_enabled') === '1' && state.get('aof_last_write_status') === 'ok'
}

/** Waits for what all of them ask, and tells who has it. All are of one lane, so of one kind. */
async function reached(items: readonly Item[], redis: Redis): Promise<(item: Item) => boolean> {
  const replicas = items.flatMap(({ commitment }) => (commitment === 'fsynced' ? [] : [commitment.replicated]))
  if (replicas.length === 0) {
    const there = await onDisk(redis)
    return () => there
  }
  const confirmed = Number(await redis.call('WAIT', Math.max(...replicas), limits.durableWaitMs))
  return ({ commitment }) => commitment !== 'fsynced' && confirmed >= commitment.replicated
}

type Send = (call: ScriptCall, whole: boolean) => Promise<unknown>

/** Sends a script by its digest, or as its whole text. What the client library would send by itself would come behind the WAIT. */
function sender(redis: Redis, texts: ScriptTexts): Send {
  return (call, whole) => (whole ? sendWhole : sendDigest)(redis, texts(call.definition), call)
}

/** Sends all of it in one go, the mark and the wait last. Answers those whose script the server did not know. */
async function flush(redis: Redis, send: Send, items: readonly Item[]): Promise<Item[]> {
  const replies = items.map(({ call, unknownScript }) => send(call, unknownScript))
  const mark = {
    definition: durableMark,
    keys: [durableMarkKey(items[0]?.call.keys[0] ?? '')],
    values: [limits.durableMarkMs],
  }
  const waits = [send(mark, true), reached(items, redis)] as const
  const [marked, verdict, ...settled] = await Promise.allSettled([...waits, ...replies])
  const again: Item[] = []
  items.forEach((item, index) => {
    const reply = settled[index] as PromiseSettledResult<unknown>
    if (reply.status === 'fulfilled') {
      const good = marked.status === 'fulfilled' && verdict.status === 'fulfilled' && verdict.value(item)
      item.resolve({ reply: reply.value, reached: good })
    } else if (!item.unknownScript && String(reply.reason).includes('NOSCRIPT')) {
      again.push({ ...item, unknownScript: true })
    } else item.reject(reply.reason)
  })
  return again
}

/** Looks at the server at the end of a connection before anything is written there. */
type Admit = (redis: Redis) => Promise<void>

/** One connection, and the scripts that gather while it waits. */
function createLane(redis: Redis, texts: ScriptTexts, admit: Admit) {
  const send = sender(redis, texts)
  let queue: Item[] = []
  let flushing = false

  async function run(): Promise<void> {
    flushing = true
    while (queue.length > 0) {
      try {
        await admit(redis)
        const again = await flush(redis, send, queue.splice(0, limits.durableBatchMax))
        queue = [...again, ...queue]
      } catch (error) {
        for (const { reject } of queue.splice(0)) reject(error)
      }
    }
    flushing = false
  }

  return {
    commit(call: ScriptCall, commitment: Commitment): Promise<Committed> {
      return new Promise((resolve, reject) => {
        queue.push({ call, commitment, unknownScript: false, resolve, reject })
        if (!flushing) void run()
      })
    },
  }
}

type Lane = ReturnType<typeof createLane> & { close: () => void }
export type GroupCommit = ReturnType<typeof createGroupCommit>

/** One lane for replicas and one for the disk, each connected with its first call. */
export function createGroupCommit(address: StoreAddress, texts: ScriptTexts, admit: Admit, place?: ServerAddress) {
  const lanes = new Map<string, Lane>()
  function open(): Lane {
    const patienceMs = limits.durableWaitMs + limits.storeCommandTimeoutMs
    const { redis, close } = stayConnected(
      address,
      'effectonce-durable',
      { patience: { commandMs: patienceMs, silentMs: patienceMs } },
      place,
    )
    // Told by whoever waits for its answer.
    redis.on('error', () => undefined)
    return { ...createLane(redis, texts, admit), close }
  }
  function laneOf(commitment: Commitment): Lane {
    const name = commitment === 'fsynced' ? 'fsynced' : 'replicated'
    const lane = lanes.get(name) ?? open()
    lanes.set(name, lane)
    return lane
  }
  return {
    commit: (call: ScriptCall, commitment: Commitment) => laneOf(commitment).commit(call, commitment),
    close: () => lanes.forEach((lane) => lane.close()),
  }
}
