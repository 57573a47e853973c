/** Where Redis is, and one connection to it: the settings that must hold on each. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Redis, type RedisOptions } from 'ioredis'
import { limits } from '../limits.ts'
import { type Patience, type Silent, watchReplies } from './patience.ts'
import { sentinelConnector } from './sentinel.ts'

export type ServerAddress = { host: string; port: number }

type Credentials = {
  username: string | null
  password: string | null
  tls: { ca_file: string | null; cert_file: string | null; key_file: string | null; servername: string | null } | null
}

/** Where Redis is and how to get in; `url` is `redis://`, `rediss://` or `unix://`. */
export type StoreAddress = Credentials &
  (
    | { url: string }
    | { sentinels: readonly ServerAddress[]; name: string; sentinel_password: string | null }
    | { cluster: readonly ServerAddress[] }
  )

export const backoff = (times: number): number =>
  Math.min(limits.storeReconnectDelayMaxMs, 20 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2)

/**
 * A primary that became a replica: connect anew, and do not send the command again by itself. Not for every refusal: reads
 * are still served, and a connection that is always on its way serves nothing.
 */
function reconnectWhenReadOnly() {
  let lastMs = -Infinity
  return (error: Error): 1 | false => {
    const nowMs = performance.now()
    if (!error.message.startsWith('READONLY') || nowMs - lastMs < limits.storeReadOnlyReconnectMs) return false
    lastMs = nowMs
    return 1
  }
}

function tlsOptions(tls: NonNullable<Credentials['tls']>) {
  const read = (file: string | null) => (file === null ? undefined : readFileSync(file))
  return {
    ca: read(tls.ca_file),
    cert: read(tls.cert_file),
    key: read(tls.key_file),
    ...(tls.servername === null ? {} : { servername: tls.servername }),
  }
}

function redisOptions({ username, password, tls }: Credentials, connectionName: string) {
  return {
    connectionName,
    // A command is never kept back, and never sent again without our knowing: each was measured to count one INCR twice.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // The ready check would hide LOADING behind "not connected".
    enableReadyCheck: false,
    connectTimeout: limits.storeConnectTimeoutMs,
    retryStrategy: backoff,
    reconnectOnError: reconnectWhenReadOnly(),
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(tls === null ? {} : { tls: tlsOptions(tls) }),
  } satisfies RedisOptions
}

/** The primary as Sentinel names it; a failover that Sentinel tells of ends the connection to the old one. */
function sentinelOptions({ sentinels, name, sentinel_password, tls }: Extract<StoreAddress, { name: string }>) {
  return {
    sentinels: sentinels.map(({ host, port }) => ({ host, port })),
    name,
    role: 'master' as const,
    failoverDetector: true,
    sentinelRetryStrategy: backoff,
    sentinelReconnectStrategy: backoff,
    sentinelCommandTimeout: limits.storeCommandTimeoutMs,
    ...(sentinel_password === null ? {} : { sentinelPassword: sentinel_password }),
    ...(tls === null ? {} : { enableTLSForSentinelMode: true, sentinelTLS: tlsOptions(tls) }),
  } satisfies RedisOptions
}

/** What a connection may set otherwise than the store does. */
export type ConnectionChanges = Omit<RedisOptions, 'replyMapping'> & {
  patience?: Patience
  /** Told when a server that was silent tells something again. */
  heard?: () => void
}

const storePatience: Patience = { commandMs: limits.storeCommandTimeoutMs, silentMs: limits.storeSocketTimeoutMs }

/** Emits `sentinelError` for each Sentinel that cannot be asked or heard. */
function openBySentinel(options: Omit<RedisOptions, 'replyMapping'>, address: Extract<StoreAddress, { name: string }>) {
  const Connector = sentinelConnector((error) => redis.emit('sentinelError', error))
  const redis: Redis = new Redis({ ...options, ...sentinelOptions(address), Connector })
  return redis
}

/** To `server`, one of a Cluster, else to the server or the primary that `address` names. */
function open(options: Omit<RedisOptions, 'replyMapping'>, address: StoreAddress, server?: ServerAddress): Redis {
  if (server) return new Redis({ ...options, host: server.host, port: server.port })
  if ('name' in address) return openBySentinel(options, address)
  assert('url' in address, 'a connection into a Cluster goes to one of its servers')
  if (!address.url.startsWith('unix://')) return new Redis(address.url, options)
  return new Redis({ ...options, path: address.url.slice('unix://'.length) })
}

/**
 * A connection whose database is refused would go on in number 0: two services on two databases would share their effects,
 * and one that was moved there by a new ACL would grant anew what is held.
 */
function refuseOtherDatabase(redis: Redis): void {
  redis.on('error', (error: Error & { command?: { name: string } }) => {
    if (error.command?.name === 'select') redis.disconnect(true)
  })
}

function openWatched(
  address: StoreAddress,
  connectionName: string,
  { patience = storePatience, heard = () => undefined, ...changes }: ConnectionChanges = {},
  server?: ServerAddress,
): { redis: Redis; silent: Silent } {
  const redis = open({ ...redisOptions(address, connectionName), ...changes }, address, server)
  refuseOtherDatabase(redis)
  return { redis, silent: watchReplies(redis, patience, heard) }
}

/** A connection of its own: to `server`, one of a Cluster, else to the server or the primary that `address` names. */
export const connect = (...args: Parameters<typeof openWatched>): Redis => openWatched(...args).redis

/**
 * A connection that comes back until it is closed. The client library sees to that, but where Sentinel tells of a failover
 * while it is being asked for the primary: then the connection has ended for good.
 */
export function stayConnected(...args: Parameters<typeof connect>): {
  redis: Redis
  silent: Silent
  close: () => void
} {
  const { redis, silent } = openWatched(...args)
  let closed = false
  redis.on('end', () => {
    if (closed) return
    setTimeout(() => void redis.connect().catch(() => undefined), limits.storeRetryPauseMs).unref()
  })
  return {
    ...{ redis, silent },
    close() {
      closed = true
      redis.disconnect()
    },
  }
}
