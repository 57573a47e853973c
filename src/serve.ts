/** One process that takes calls: it connects, checks Redis, listens, and drains when it is told to. */
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { buildApp } from './app.ts'
import { type Config, describeBinding } from './config.ts'
import { limits } from './limits.ts'
import { unfit } from './observability/health.ts'
import { surviveFaults } from './observability/log.ts'
import type { Fellows } from './processes/fellows.ts'
import type { Farewell, Where } from './processes/messages.ts'
import { createServices, type Services } from './services.ts'

/** This Redis may not be used; `message` is for the person who started the service. */
export class UnfitRedisError extends Error {}

export type ServeOptions = {
  config: Config
  where: Where
  port: number
  /** How many processes shall take calls behind this port. */
  processes: number
  fellows: Fellows
  log: Logger
}

export type Serving = {
  port: number
  /** What a person who starts the service wants to see first. */
  greeting: string
  /** What this process counts. */
  registry: Registry
  /** From now on the service, not only this process, is about to end. */
  unready: () => void
  /** Stops taking calls, answers those under way, then lets go of Redis. */
  drain: (farewell: Farewell) => Promise<void>
}

function greetingOf({ config, inspector }: Services, { where, processes }: ServeOptions, port: number): string {
  const { url, warning } = describeBinding(config, port)
  const known = inspector.latest()
  const state = known ? `${known.server} ${known.version}, ${known.durability}` : 'does not answer yet'
  const warnings = (known?.checks ?? []).flatMap(({ status, detail, remedy }) =>
    status === 'ok' ? [] : [`${detail} ${remedy ?? ''}`],
  )
  const lines = [
    `Effectonce listens on ${url}`,
    `  docs    ${url}/docs`,
    `  redis   ${where.place}; ${state}`,
    ...(processes === 1 ? [] : [`  workers ${processes} processes`]),
    ...[...(warning === null ? [] : [warning]), ...warnings].map((text) => `  warning ${text}`),
  ]
  return `${lines.join('\n')}\n`
}

/** Waits a moment for Redis and refuses one that is unfit. An absent one is no reason: the service waits for it. */
async function checkRedis({ inspector, config }: Services): Promise<void> {
  const inspection = await inspector.atStart(limits.storeDeadlineMs)
  const faults = inspection && unfit(inspection, config.redis.require_safe)
  if (faults !== undefined) throw new UnfitRedisError(`This Redis is not fit for the service:\n${faults}`)
}

/** From now on every answer is the last of its connection, so that a caller's next call goes to another process. */
function endConnections(app: FastifyInstance): void {
  app.server.prependListener('request', (_request, response) => (response.shouldKeepAlive = false))
}

/**
 * The server waits for every connection: also for one that was kept alive by an answer under way when it began to close,
 * and for one that never sends anything. No call takes as long as `limits.drainCallsMs`.
 */
async function close(app: FastifyInstance): Promise<void> {
  const idle = setInterval(() => app.server.closeIdleConnections(), limits.drainIdlePollMs)
  const silent = setTimeout(() => app.server.closeAllConnections(), limits.drainCallsMs)
  await app.close()
  clearInterval(idle)
  clearTimeout(silent)
}

/** Resolves when the process takes calls. */
export async function serve(options: ServeOptions): Promise<Serving> {
  const { config, where, fellows, log } = options
  const services = createServices({ config, address: where.address, fellows, log })
  const app = await buildApp(services)
  surviveFaults(log, services.metrics)
  await checkRedis(services)
  services.start()
  await app.listen({ host: config.server.host, port: options.port, backlog: limits.listenBacklogMax })
  const { port } = app.server.address() as AddressInfo
  const unready = (): void => services.health.drain()
  return {
    ...{ port, greeting: greetingOf(services, options, port), registry: services.metrics.registry, unready },
    async drain({ noticeMs, replaced }) {
      if (!replaced) unready()
      endConnections(app)
      await sleep(noticeMs)
      await close(app)
      await services.stop()
    },
  }
}
