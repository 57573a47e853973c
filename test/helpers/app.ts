/**
 * The whole service for one test, over a real Redis: `call` goes through every hook and schema, only the socket is
 * left out. `moveClock` moves the time that the scripts read, so that no test waits for a lease to end.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import tap from 'tap'
import { parse, stringify } from 'yaml'
import { buildApp } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'
import type { ServiceEvent } from '../../src/events/events.ts'
import { createLog } from '../../src/observability/log.ts'
import type { StoreAddress } from '../../src/redis/connection.ts'
import { loadPreludes, type Preludes } from '../../src/redis/scripts.ts'
import { createServices, type Services } from '../../src/services.ts'
import { redisCli, type RedisServer, startRedis, waitFor } from './redis-server.ts'

/** Where the scripts of a test find how far, in microseconds, their clock is from Redis's. */
export const clockOffsetKey = 'test:clock_offset_us'

const movedClock = `
do
  clock.now_us = clock.now_us + tonumber(redis.call('GET', '${clockOffsetKey}') or 0)
  clock.now_ms = math.floor(clock.now_us / 1000)
end`

export interface AppOptions {
  /** The configuration file's text (YAML). The default writes no audit files. */
  config?: string
  env?: Record<string, string>
  /** Default: one server for all tests of a file. */
  redis?: RedisServer
  /** Where Redis is, when not there: a proxy. */
  redisUrl?: string
  /** Where Redis is, as the configuration names it: Sentinels, or a Cluster, where no clock can be moved. */
  place?: StorePlace
  /** Who the service is to Redis. Default: nobody, without a password. */
  login?: { username: string; password: string }
  /** Redis is away: nobody waits for it. */
  away?: boolean
  /** Whether the sweep and the other background work run. Default: false. */
  background?: boolean
  /** Default: Infinity, since `moveClock` lets time pass. */
  clockStepMs?: number
}

export type StorePlace =
  | Pick<Extract<StoreAddress, { url: string }>, 'url'>
  | Pick<Extract<StoreAddress, { name: string }>, 'sentinels' | 'name' | 'sentinel_password'>
  | Pick<Extract<StoreAddress, { cluster: unknown }>, 'cluster'>

export interface Answer {
  status: number
  headers: Record<string, string | string[] | number | undefined>
  /** The JSON of the answer, or undefined where there is none. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look at answers of every shape
  body: any
  text: string
}

export interface TestApp {
  app: FastifyInstance
  services: Services
  redis: RedisServer
  /** Everything that was emitted so far, oldest first. */
  events: ServiceEvent[]
  /** One request. A string or a Buffer is sent as it is, anything else as its JSON. */
  call: (method: string, url: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>
  /** Moves the clock of every app on this Redis by so many seconds more; a negative number moves it back. */
  moveClock: (seconds: number) => Promise<void>
}

/** An API key as the configuration lists it, and the headers of a call with it. */
export function makeKey(role: 'reader' | 'worker' | 'operator', namespace: string, name: string = role) {
  const secret = randomUUID()
  const sha256 = createHash('sha256').update(secret).digest('hex')
  return { entry: { name, sha256, role, namespace }, headers: { authorization: `Bearer ${secret}` } }
}

let shared: Promise<RedisServer> | undefined

/** The Redis that all tests of this file share. */
export const sharedRedis = (): Promise<RedisServer> => (shared ??= startRedis(tap))

/** In a Cluster a script may read no key of another slot: there the clock is the real one. */
const preludes = (place: StorePlace): Preludes => {
  const real = loadPreludes()
  return 'cluster' in place ? real : { ...real, clock: real.clock + movedClock }
}

function configOf({ config = '', env = {} }: AppOptions) {
  const settings = (parse(config) ?? {}) as { retry?: object }
  const retry = { audit_log_path: null, ...settings.retry }
  return parseConfig(stringify({ ...settings, retry }), { LOG_LEVEL: 'silent', ...env }, null)
}

/** Builds the service; the end of the test closes it. */
export async function startApp(
  t: { teardown(end: () => Promise<void>): void },
  options: AppOptions = {},
): Promise<TestApp> {
  const redis = options.redis ?? (await sharedRedis())
  const place: StorePlace = options.place ?? { url: options.redisUrl ?? redis.url }
  const config = configOf(options)
  const { clockStepMs = Infinity, login = { username: null, password: null } } = options
  const log = createLog(config.server.log_level)
  const address: StoreAddress = { ...place, ...login, tls: null }
  const services = createServices({ config, address, log, preludes: preludes(place), clockStepMs })
  const events: ServiceEvent[] = []
  services.events.subscribe((event) => events.push(event))
  const app = await buildApp(services)
  if (options.background) services.start()
  // A machine that is busy may need longer than a call waits.
  if (!options.away) await waitFor(() => services.store.connected(), 20_000)
  t.teardown(async () => {
    await app.close()
    await services.stop()
  })
  return {
    ...{ app, services, redis, events },
    call: (method, url, body, headers) => request(app, method, url, body, headers),
    async moveClock(seconds) {
      await redisCli(redis.port, 'INCRBY', clockOffsetKey, Math.round(seconds * 1_000_000))
    },
  }
}

/** One request through every hook and schema of `app`; only the socket is left out. */
async function request(
  app: FastifyInstance,
  method: string,
  url: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const payload = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
  const response = await app.inject({
    method: method as 'GET',
    url,
    headers: { ...(payload === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(payload === undefined ? {} : { payload }),
  })
  const text = response.payload
  const json = /json/.test(String(response.headers['content-type'])) && text !== ''
  return {
    status: response.statusCode,
    headers: response.headers,
    body: json ? (JSON.parse(text) as unknown) : undefined,
    text,
  }
}
