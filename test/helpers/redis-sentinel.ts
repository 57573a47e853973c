/** A primary, its replicas and the Sentinels that watch them, for one test: each its own process, ended with the test. */
import { freePort, redisCli, type RedisServer, startRedis, waitFor } from './redis-server.ts'

const formDeadlineMs = 20_000
const name = 'main'

export interface SentinelOptions {
  /** Default 2. */
  replicas?: number
  /** Default 3. */
  sentinels?: number
  /** After which a silent server is taken for dead. Default 500. */
  downAfterMs?: number
  /** Further arguments of every data server. */
  args?: string[]
  /** Further arguments of one data server: the first primary, then the replicas. */
  argsOf?: (server: { index: number; port: number }) => string[]
  /** The port of each data server, where somebody else must know it before. */
  ports?: readonly number[]
  /** The port by which the others find a data server: that of a proxy. Default: its own. */
  announced?: (port: number) => number
  /** Further lines of each Sentinel's configuration. */
  sentinelConfig?: (index: number) => string
}

export interface RedisSentinel {
  /** The first primary, then the replicas. */
  readonly servers: readonly RedisServer[]
  readonly sentinels: readonly RedisServer[]
  /** Where a service finds it. */
  readonly place: { sentinels: { host: string; port: number }[]; name: string; sentinel_password: null }
  /** Who is the primary, as the Sentinels say. */
  primary(): Promise<RedisServer>
  /** Resolves with the new primary once the Sentinels agree that it is no longer `old`, and it takes writes. */
  changedFrom(old: RedisServer, deadlineMs?: number): Promise<RedisServer>
  /**
   * Orders a failover; resolves with the new primary once all agree. The Sentinels leave the old one alone for some 8 s
   * more: until then it takes the writes of whoever has not heard.
   */
  failover(): Promise<RedisServer>
  /** Waits until the Sentinels know of each other and of all replicas, and of those that run one is the primary. */
  whole(deadlineMs?: number): Promise<void>
}

type Teardown = { teardown(end: () => Promise<void>): void }

const configOf = (primaryPort: number, { downAfterMs = 500, sentinelConfig }: SentinelOptions, index: number) =>
  [
    `sentinel monitor ${name} 127.0.0.1 ${primaryPort} 2`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    // Also the least time, doubled, between two failovers that nobody has ordered.
    `sentinel failover-timeout ${name} 1500`,
    `sentinel parallel-syncs ${name} 8`,
    ...(sentinelConfig ? [sentinelConfig(index)] : []),
    '',
  ].join('\n')

async function startServers(t: Teardown, options: SentinelOptions): Promise<RedisServer[]> {
  const { replicas = 2, args = [], announced = (port: number) => port } = options
  const start = async (index: number, follow: string[]): Promise<RedisServer> => {
    const port = options.ports?.[index] ?? (await freePort())
    const own = ['--repl-diskless-sync-delay', '0', '--replica-announce-port', String(announced(port))]
    const further = [...args, ...(options.argsOf?.({ index, port }) ?? [])]
    return startRedis(t, { port, args: [...own, ...follow, ...further] })
  }
  const primary = await start(0, [])
  const follow = ['--replicaof', '127.0.0.1', String(announced(primary.port))]
  return [primary, ...(await Promise.all(Array.from({ length: replicas }, (_, index) => start(index + 1, follow))))]
}

const running = ({ pid }: RedisServer): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** A flat list of names and values as an object. */
function fieldsOf(reply: unknown): Record<string, string> {
  const list = reply as string[]
  return Object.fromEntries(list.flatMap((field, index) => (index % 2 === 0 ? [[field, list[index + 1]!]] : [])))
}

const roleOf = async ({ port }: RedisServer): Promise<string> =>
  ((await redisCli(port, 'ROLE').catch(() => ['unknown'])) as string[])[0]!

const inStep = async ({ port }: RedisServer): Promise<boolean> => {
  const replication = String(await redisCli(port, 'INFO', 'replication'))
  return replication.includes('role:master') || replication.includes('master_link_status:up')
}

/** Starts them and resolves when the Sentinels have found each other and the replicas: about 2.5 s. */
export async function startSentinel(t: Teardown, options: SentinelOptions = {}): Promise<RedisSentinel> {
  const { announced = (port: number) => port } = options
  const servers = await startServers(t, options)
  const starts = Array.from({ length: options.sentinels ?? 3 }, (_, index) =>
    startRedis(t, { args: ['--sentinel'], config: configOf(announced(servers[0]!.port), options, index) }),
  )
  const sentinels = await Promise.all(starts)

  const namedBy = async ({ port }: RedisServer): Promise<RedisServer | undefined> => {
    const [, named] = (await redisCli(port, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as [string, string]
    return servers.find((server) => announced(server.port) === Number(named))
  }
  const agreed = async (): Promise<RedisServer | undefined> => {
    const named = await Promise.all(sentinels.filter(running).map(namedBy))
    return named.every((server) => server === named[0]) ? named[0] : undefined
  }
  const whole = async (deadlineMs = formDeadlineMs) => {
    const knows = async ({ port }: RedisServer) => {
      const fields = fieldsOf(await redisCli(port, 'SENTINEL', 'MASTER', name))
      const others = Number(fields['num-other-sentinels']) === sentinels.length - 1
      return others && Number(fields['num-slaves']) >= servers.length - 1 && fields['flags'] === 'master'
    }
    const all = async () => {
      const [up, watching] = [servers.filter(running), sentinels.filter(running)]
      const roles = await Promise.all(up.map(roleOf))
      if (roles.filter((role) => role === 'master').length !== 1) return false
      return (await Promise.all([...watching.map(knows), ...up.map(inStep)])).every(Boolean)
    }
    await waitFor(all, deadlineMs)
  }
  const changedFrom = (old: RedisServer, deadlineMs = formDeadlineMs) =>
    waitFor(async () => {
      const server = await agreed()
      return server && server !== old && (await roleOf(server)) === 'master' ? server : undefined
    }, deadlineMs)
  const primary = () => waitFor(agreed, formDeadlineMs)
  await whole()
  return {
    ...{ servers, sentinels, primary, changedFrom, whole },
    place: {
      sentinels: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })),
      ...{ name, sentinel_password: null },
    },
    async failover() {
      const old = await primary()
      // One that is still under way, or a replica that is not yet known to be good, is no reason to give up.
      const order = () => redisCli(sentinels[0]!.port, 'SENTINEL', 'FAILOVER', name).catch(() => false)
      await waitFor(order, formDeadlineMs)
      return changedFrom(old)
    },
  }
}
