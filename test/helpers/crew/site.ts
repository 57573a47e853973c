/** Where the services' Redis is in a soak, and what can befall it: one fault at a time, healed before the next begins. */
import { execFile } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { StoreAddress } from '../../../src/redis/connection.ts'
import { redisCli, type RedisServer, startRedis } from '../redis-server.ts'
import { loseReply, startProxy, type TcpProxy } from '../tcp-proxy.ts'
import type { Random } from './random.ts'
import { clockStepKey } from './stepped-clock.ts'

const run = promisify(execFile)

export type Teardown = { teardown(end: () => Promise<void>): void }

/** Begins, lasts and is healed; resolves when the store serves again. */
export type Fault = (random: Random) => Promise<unknown>

export type Site = {
  address: StoreAddress
  /** Whether scripts may read the key that steps their clock. */
  stepped: boolean
  /** What an acknowledged write survives here, as the configuration says it. */
  durability: unknown
  /** Whether what waits for no replica (breakers, audit) may be lost with a primary. */
  lossy: boolean
  faults: Record<string, Fault>
}

export const noCredentials = { username: null, password: null, tls: null }

const lasting = (random: Random, lowMs: number, highMs: number) => delay(random.between(lowMs, highMs))

/** What can happen to the network between the services and a Redis, which none of its other clients notices. */
export function networkFaults(proxies: readonly TcpProxy[], concerns: (from: string) => boolean): Site['faults'] {
  const spoiling =
    (spoil: (proxy: TcpProxy, random: Random) => void, lowMs: number, highMs: number): Fault =>
    async (random) => {
      const proxy = random.pick(proxies)
      proxy.applies = concerns
      spoil(proxy, random)
      await lasting(random, lowMs, highMs)
      proxy.heal()
    }
  return {
    net_delay: spoiling((proxy, random) => proxy.set('replies', { delayMs: random.between(20, 400) }), 1000, 4000),
    net_throttle: spoiling((proxy) => proxy.set('requests', { bytesPerSecond: 20_000 }), 1000, 3000),
    net_slice: spoiling((proxy) => proxy.set('replies', { sliceBytes: 5 }), 1000, 3000),
    net_drop: spoiling((proxy) => proxy.set('replies', { drop: true }), 300, 1500),
    net_black_hole: spoiling((proxy) => proxy.blackHole(), 500, 4000),
    net_cut: spoiling((proxy) => proxy.cut(), 300, 3000),
    net_reset: spoiling((proxy) => proxy.reset(), 50, 100),
    lost_reply: spoiling(loseReply, 200, 500),
  }
}

/** On every server that takes writes. */
export const everyServer =
  (servers: readonly RedisServer[], ...command: (string | number)[]): Fault =>
  () =>
    Promise.all(servers.map(({ port }) => redisCli(port, ...command).catch(() => undefined)))

/** Again and again until it is done: servers that change their roles cut connections, and a fault may linger. */
export async function insist<T>(act: () => Promise<T>, deadlineMs = 90_000): Promise<T> {
  const until = performance.now() + deadlineMs
  for (;;) {
    try {
      return await act()
    } catch (error) {
      if (performance.now() > until) throw error
      await delay(50)
    }
  }
}

type Port = () => number | Promise<number>

const command = (port: Port, ...words: (string | number)[]) => insist(async () => redisCli(await port(), ...words))

/** The scripts' clock steps forward and, after a while, back; `port` is asked at each try, for the primary may change. */
export const clockStep =
  (port: Port): Fault =>
  async (random) => {
    const us = Math.round(random.between(600, 3000)) * 1000
    await command(port, 'SET', clockStepKey, us)
    await lasting(random, 500, 4000)
    await command(port, 'SET', clockStepKey, 0)
  }

const hang =
  (server: () => RedisServer | Promise<RedisServer>, lowMs: number, highMs: number): Fault =>
  async (random) => {
    const hung = await server()
    await hung.kill('SIGSTOP')
    await lasting(random, lowMs, highMs)
    await hung.kill('SIGCONT')
  }

/** Memory is full for a while. */
const full =
  ({ port }: RedisServer): Fault =>
  async (random) => {
    await command(() => port, 'CONFIG', 'SET', 'maxmemory', 1)
    await lasting(random, 500, 3000)
    await command(() => port, 'CONFIG', 'SET', 'maxmemory', 0)
  }

/** Killed, and started again with what its disk has. */
const crash =
  (server: RedisServer): Fault =>
  async (random) => {
    await server.kill('SIGKILL')
    await lasting(random, 0, 2000)
    await server.restart()
  }

/**
 * The disk is full: no file of the server grows over its size now. With `appendfsync always` it ends itself rather than
 * acknowledge what it cannot keep; with room again it starts with what it has kept.
 */
const fullDisk =
  (server: RedisServer): Fault =>
  async (random) => {
    await run('prlimit', ['--pid', String(server.pid), '--fsize=4096:4096']).catch(() => undefined)
    await lasting(random, 500, 2000)
    await server.kill('SIGKILL')
    await server.restart()
  }

/** One Redis that keeps on disk what it acknowledges. */
export async function standalone(t: Teardown): Promise<Site> {
  const redis = await startRedis(t, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  const proxy = await startProxy(t, redis.port)
  return {
    address: { url: proxy.url, ...noCredentials },
    ...{ stepped: true, durability: 'primary', lossy: false },
    faults: {
      ...networkFaults([proxy], () => true),
      redis_crash: crash(redis),
      redis_hang: hang(() => redis, 100, 3000),
      full_disk: fullDisk(redis),
      maxmemory: full(redis),
      script_flush: everyServer([redis], 'SCRIPT', 'FLUSH'),
      clock_step: clockStep(() => redis.port),
    },
  }
}
