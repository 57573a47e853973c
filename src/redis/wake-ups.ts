/**
 * What scripts tell those who wait: one channel, heard on one connection of its own, which opens with the first who waits
 * and then stays. In a Cluster any server does, since each hands on what is published at another one.
 *
 * A message may be lost wherever a connection is, so `stood` is told each time that the channel is heard anew: whoever waits
 * must ask again then.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import { backoff, connect, type ServerAddress, type StoreAddress } from './connection.ts'

export type WakeUpsOptions = {
  address: StoreAddress
  /** The servers of a Cluster, as far as they are known. */
  places: () => readonly ServerAddress[]
  channel: string
  log: Logger
  /** Must not throw. */
  heard: (name: string) => void
  /** From now on everything is heard. Must not throw. */
  stood: () => void
}

/** Resolves when the connection is lost; a server that does not answer a PING is as good as lost. */
async function lost(redis: Redis): Promise<void> {
  const beat = setInterval(() => {
    redis.ping().catch(() => redis.disconnect())
  }, limits.wakeBeatMs)
  await new Promise((resolve) => redis.once('close', resolve))
  clearInterval(beat)
}

export function createWakeUps({ address, places, channel, log, heard, stood }: WakeUpsOptions) {
  let running: Promise<void> | undefined
  let current: Redis | undefined
  let closed = false
  let failures = 0
  let turn = 0

  /** Another server of a Cluster each time; the one that was lost may be lost for long. */
  function open(): Redis {
    const known = places()
    const once = { lazyConnect: true, retryStrategy: () => null, reconnectOnError: () => false, autoResubscribe: false }
    return connect(address, 'effectonce-wake', once, known[turn++ % known.length])
  }

  async function listen(): Promise<void> {
    const redis = open()
    current = redis
    redis.on('error', () => undefined)
    redis.on('message', (_channel, name: string) => heard(name))
    try {
      await redis.connect()
      await redis.subscribe(channel)
      failures = 0
      stood()
      await lost(redis)
    } finally {
      redis.disconnect()
    }
  }

  async function run(): Promise<void> {
    while (!closed) {
      try {
        await listen()
      } catch (error) {
        log.debug({ err: error }, 'nothing can be heard of effects that others hold')
      }
      if (!closed) await sleep(backoff(failures++))
    }
  }

  return {
    /** From the first call on the channel is heard, until `close`. */
    open(): void {
      if (!closed) running ??= run()
    },
    /** The store answers from somewhere else, perhaps: what is heard here may be a server that nobody writes to. */
    renew(): void {
      current?.disconnect()
    },
    async close(): Promise<void> {
      closed = true
      current?.disconnect()
      await running
    },
  }
}
