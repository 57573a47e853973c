/**
 * Breakers of one process, or of many, over a real Redis: each instance has its own connection and its own view, as
 * service processes have. `moveClock` moves the time that the scripts read.
 */
import { randomUUID } from 'node:crypto'
import tap from 'tap'
import { type Audit, createAudit } from '../../src/audit/audit.ts'
import { createBreakers, type Breakers } from '../../src/breakers/breakers.ts'
import type { BreakerSettings } from '../../src/breakers/present.ts'
import { jobTypeConfig, parseConfig } from '../../src/config.ts'
import type { ServiceEvent } from '../../src/events/events.ts'
import { createClassifier } from '../../src/failures/classify.ts'
import { createLog } from '../../src/observability/log.ts'
import { connectStore, type Store } from '../../src/redis/client.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { loadPreludes } from '../../src/redis/scripts.ts'
import { redisCli, type RedisServer, type Reply, startRedis } from './redis-server.ts'
import { quietWatch } from './store.ts'

export interface Instance {
  breakers: Breakers
  audit: Audit
  store: Store
  /** What in-process listeners were told, oldest first. */
  told: ServiceEvent[]
  /** Scripts that Redis has answered so far. */
  scripts: () => number
}

let shared: Promise<RedisServer> | undefined
/** The Redis that all tests of this file share. */
const server = (): Promise<RedisServer> => (shared ??= startRedis(tap))

/** One command, over a connection of its own. */
export const redis = async (...args: (string | number)[]): Promise<Reply> => redisCli((await server()).port, ...args)

const offsetKey = 'test:clock_offset_us'
export const moveClock = (seconds: number): Promise<Reply> =>
  redis('INCRBY', offsetKey, Math.round(seconds * 1_000_000))

const movedClock = `
do
  clock.now_us = clock.now_us + tonumber(redis.call('GET', '${offsetKey}') or 0)
  clock.now_ms = math.floor(clock.now_us / 1000)
end`

export const keys = createKeys('idempotency')
const defaults = parseConfig('', {}, null)
export const classifier = createClassifier(defaults.failures)
export const actor = { user: 'alice', on_behalf_of: null }

/** One process's breakers; the end of the test closes its connection. */
export async function startInstance(
  t: { teardown(end: () => Promise<void>): void },
  settings: Partial<BreakerSettings> = {},
): Promise<Instance> {
  const preludes = loadPreludes()
  let answered = 0
  const told: ServiceEvent[] = []
  const address = { url: (await server()).url, username: null, password: null, tls: null }
  const observer = { answered: () => void answered++, trouble: () => undefined, connection: () => undefined }
  const store = connectStore(address, { ...preludes, clock: preludes.clock + movedClock }, observer, quietWatch())
  const log = createLog('silent')
  const files = { write: () => undefined }
  const audit = createAudit({ store, keys, entriesMax: 1000, log, files, namespaces: [] })
  const breakers = createBreakers({
    ...{ store, keys, audit },
    events: { tell: (event) => void told.push(event), emit: (event) => void told.push(event) },
    classify: (error, nowMs) => classifier.classify(error, { nowMs }),
    settings: () => ({ ...jobTypeConfig(defaults, null).circuit_breaker, ...settings }),
    newId: randomUUID,
  })
  t.teardown(async () => {
    await breakers.stop()
    store.close()
  })
  return { breakers, audit, store, told, scripts: () => answered }
}

/** Several processes with the same settings. */
export const startInstances = (
  t: { teardown(end: () => Promise<void>): void },
  count: number,
  settings: Partial<BreakerSettings> = {},
): Promise<Instance[]> => Promise.all(Array.from({ length: count }, () => startInstance(t, settings)))
