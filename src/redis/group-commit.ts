/**
 * Durability beyond the primary's memory. Scripts that must be on replicas, or on disk, before they are answered go out
 * together on a connection of their own, with one WAIT behind them: while it waits, the next ones gather.
 */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'
import { stayConnected, type ServerAddress, type StoreAddress } from './connection.ts'
import { durableMark } from './durable-mark.ts'
import { parseInfo } from './info.ts'
import { type Identity, identityOn } from './identity.ts'
import { type Preludes, type ScriptCall, scriptText } from './scripts.ts'

/** What an answer waits for: so many replicas have the write, or the primary's disk has. */
export type Commitment = 'fsynced' | { replicated: number }

/** A script's reply, and whether what it asked for was reached within `limits.durableWaitMs`. */
export type Committed = { reply: unknown; reached: boolean }

type Item = {
  call: ScriptCall
  commitment: Commitment
  identity: Identity
  /** The server said that it does not know the script: its whole text goes with the next flush. */
  unknownScript: boolean
  resolve: (committed: Committed) => void
  reject: (error: unknown) => void
}

/** No byte of it was written: classified as such by these words of the client. */
const neverSent = () => new Error("Stream isn't writeable: the connection has changed")

/** `<prefix>:{<tag>}:…` -> `<prefix>:{<tag>}:durable`: in the slot of the call. */
const markOf = (key: string): string => `${key.slice(0, key.indexOf('}') + 1)}:durable`

/** How many replicas have everything written so far. */
async function replicasWith(redis: Redis, wanted: number): Promise<number> {
  return Number(await redis.call('WAIT', wanted, limits.durableWaitMs))
}

/**
 * Whether the disk of the primary has everything answered so far: with `always` an answer leaves the server behind its
 * fsync. WAITAOF tells no more than that, and less with `everysec`: from Redis 7.4 on, and in Valkey, it may answer before
 * any fsync. Source: redis/redis#13793.
 */
async function onDisk(redis: Redis): Promise<boolean> {
  const [settings, info] = await Promise.all([
    redis.call('CONFIG', 'GET', 'appendfsync') as Promise<string[]>,
    redis.call('INFO', 'persistence') as Promise<string>,
  ])
  const state = parseInfo(info)
  return settings[1] === 'always' && state.get('aof_enabled') === '1' && state.get('aof_last_write_status') === 'ok'
}

function reached(items: readonly Item[], redis: Redis): Promise<(item: Item) => boolean> {
  const wanted = items.map(({ commitment }) => (commitment === 'fsynced' ? 0 : commitment.replicated))
  if (items.some(({ commitment }) => commitment === 'fsynced')) {
    return onDisk(redis).then((there) => () => there)
  }
  return replicasWith(redis, Math.max(...wanted)).then(
    (replicas) =>
      ({ commitment }) =>
        commitment !== 'fsynced' && replicas >= commitment.replicated,
  )
}

type Text = { text: string; sha: string }
type Send = (call: ScriptCall, whole: boolean) => Promise<unknown>

/** Sends a script by its digest, or as its whole text. What the client library would send by itself would come behind the WAIT. */
function sender(redis: Redis, preludes: Preludes): Send {
  const texts = new Map<string, Text>()
  function textOf({ definition }: ScriptCall): Text {
    const known = texts.get(definition.name)
    if (known) return known
    const text = scriptText(definition, preludes)
    const made = { text, sha: createHash('sha1').update(text).digest('hex') }
    texts.set(definition.name, made)
    return made
  }
  return (call, whole) => {
    const { text, sha } = textOf(call)
    const { keys, values } = call
    return whole
      ? redis.eval(text, keys.length, ...keys, ...values)
      : redis.evalsha(sha, keys.length, ...keys, ...values)
  }
}

/** Sends all of it in one go, the mark and the wait last. Answers those whose script the server did not know. */
async function flush(redis: Redis, send: Send, items: readonly Item[]): Promise<Item[]> {
  const replies = items.map(({ call, unknownScript }) => send(call, unknownScript))
  const mark = { definition: durableMark, keys: [markOf(items[0]?.call.keys[0] ?? '')], values: [limits.durableMarkMs] }
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

/** One connection, and the scripts that gather while it waits. */
function createLane(redis: Redis, node: string, preludes: Preludes) {
  const identity = identityOn(redis, node)
  const send = sender(redis, preludes)
  let queue: Item[] = []
  let flushing = false

  async function run(): Promise<void> {
    flushing = true
    while (queue.length > 0) {
      const now = identity.known()
      const batch = queue.splice(0, limits.durableBatchMax)
      const valid = batch.filter((item) => item.identity === now)
      for (const item of batch) if (item.identity !== now) item.reject(neverSent())
      if (now && valid.length > 0) queue = [...(await flush(redis, send, valid)), ...queue]
    }
    flushing = false
  }

  return {
    identity,
    /** `judged`: who answered on this connection when the call was allowed; it is not sent to anybody else. */
    commit(call: ScriptCall, commitment: Commitment, judged: Identity): Promise<Committed> {
      return new Promise((resolve, reject) => {
        queue.push({ call, commitment, identity: judged, unknownScript: false, resolve, reject })
        if (!flushing) void run()
      })
    },
  }
}

export type Lane = ReturnType<typeof createLane> & { close: () => void }
export type GroupCommit = ReturnType<typeof createGroupCommit>

/** One lane for replicas and one for the disk, each connected with its first call. */
export function createGroupCommit(
  address: StoreAddress,
  { preludes, node }: { preludes: Preludes; node: string },
  place?: ServerAddress,
) {
  const lanes = new Map<string, Lane>()
  function open(): Lane {
    const patienceMs = limits.durableWaitMs + limits.storeCommandTimeoutMs
    const { redis, close } = stayConnected(
      address,
      'effectonce-durable',
      { commandTimeout: patienceMs, socketTimeout: patienceMs },
      place,
    )
    // Told by whoever waits for its answer.
    redis.on('error', () => undefined)
    return { ...createLane(redis, node, preludes), close }
  }
  return {
    lane(commitment: Commitment): Lane {
      const name = commitment === 'fsynced' ? 'fsynced' : 'replicated'
      const known = lanes.get(name) ?? open()
      lanes.set(name, known)
      return known
    },
    close: () => lanes.forEach((lane) => lane.close()),
  }
}
