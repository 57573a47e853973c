/** The process: load the configuration, connect (or start the private Redis), listen, drain on SIGTERM. */
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { buildApp } from './app.ts'
import { type Config, ConfigError, describeBinding, loadConfig, usesPrivateRedis } from './config.ts'
import { limits } from './limits.ts'
import { unfit } from './observability/health.ts'
import { createLog, surviveFaults } from './observability/log.ts'
import { type PrivateServer, PrivateServerError, startPrivateServer } from './redis/private-server.ts'
import type { StoreAddress } from './redis/connection.ts'
import { createServices, type Services } from './services.ts'

/** For people: where Redis is, without secrets. */
function placeOf({ redis, server }: Config, privateServer: PrivateServer | undefined): string {
  const list = (servers: readonly { host: string; port: number }[]) =>
    servers.map(({ host, port }) => `${host}:${port}`).join(', ')
  if (privateServer) return `private (${privateServer.mode}), data in ${server.data_dir}`
  if (redis.sentinels !== null) return `${redis.name} of Sentinels ${list(redis.sentinels)}`
  return redis.cluster === null ? (redis.url ?? '').replace(/\/\/[^@/]*@/, '//') : `Cluster ${list(redis.cluster)}`
}

/** Where Redis is: as configured, or the private server's socket. */
function addressOf(config: Config, server: PrivateServer | undefined): StoreAddress {
  const { url, sentinels, name, sentinel_password, cluster, username, password, tls } = config.redis
  if (server) return { url: `unix://${server.socketPath}`, username: null, password: null, tls: null }
  const credentials = { username, password, tls }
  if (sentinels !== null) return { ...credentials, sentinels, name: name ?? '', sentinel_password }
  return cluster === null ? { ...credentials, url: url ?? '' } : { ...credentials, cluster }
}

/** What a person who starts it wants to see first. */
function greet({ config, inspector }: Services, app: FastifyInstance, server: PrivateServer | undefined): void {
  const { port } = app.server.address() as AddressInfo
  const { url, warning } = describeBinding(config, port)
  const known = inspector.latest()
  const state = known ? `${known.server} ${known.version}, ${known.durability}` : 'does not answer yet'
  const warnings = (known?.checks ?? []).flatMap(({ status, detail, remedy }) =>
    status === 'ok' ? [] : [`${detail} ${remedy ?? ''}`],
  )
  const lines = [
    `Effectonce listens on ${url}`,
    `  docs    ${url}/docs`,
    `  redis   ${placeOf(config, server)}; ${state}`,
    ...[...(warning === null ? [] : [warning]), ...warnings].map((text) => `  warning ${text}`),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

/** This Redis may not be used; `message` is for the person who started the service. */
class UnfitRedisError extends Error {}

/** Waits a moment for Redis and refuses one that is unfit. An absent one is no reason: the service waits for it. */
async function checkRedis({ inspector, config }: Services): Promise<void> {
  const inspection = await inspector.atStart(limits.storeDeadlineMs)
  const faults = inspection && unfit(inspection, config.redis.require_safe)
  if (faults !== undefined) throw new UnfitRedisError(`This Redis is not fit for the service:\n${faults}`)
}

/** Tells load balancers, stops taking calls, answers those under way, then lets go of Redis. */
async function drain(
  app: FastifyInstance,
  services: Services,
  server: PrivateServer | undefined,
  noticeMs: number,
): Promise<void> {
  services.health.drain()
  await sleep(noticeMs)
  await app.close()
  await services.stop()
  await server?.stop()
}

type Stop = (why: string, exitCode: number, noticeMs?: number) => void

/** Answers the function that begins the drain, once; `why` is logged. A person at a terminal is not kept waiting. */
function stopOnSignals(log: Logger, drainAll: (noticeMs: number) => Promise<void>): Stop {
  let stopping = false
  const begin: Stop = (why, exitCode, noticeMs = 0) => {
    if (stopping) return
    stopping = true
    log.info({ why }, 'draining')
    setTimeout(() => process.exit(1), limits.drainTimeoutMs).unref()
    drainAll(noticeMs).then(
      () => process.exit(exitCode),
      (error: unknown) => {
        log.error({ err: error }, 'the drain failed')
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', () => begin('SIGTERM', 0, limits.drainNoticeMs))
  process.on('SIGINT', () => begin('SIGINT', 0))
  return begin
}

async function main(): Promise<void> {
  const config = loadConfig()
  const log = createLog(config.server.log_level)
  const server = usesPrivateRedis(config.redis)
    ? await startPrivateServer({ dataDir: config.server.data_dir, log })
    : undefined
  const services = createServices({ config, address: addressOf(config, server), log })
  const app = await buildApp(services)
  const stop = stopOnSignals(log, (noticeMs) => drain(app, services, server, noticeMs))
  void server?.exited.then(({ requested }) => {
    if (!requested) stop('the private Redis has ended', 1)
  })
  surviveFaults(log, services.metrics)
  await checkRedis(services)
  services.start()
  const { host, port } = config.server
  await app.listen({ host, port, backlog: limits.listenBacklogMax })
  greet(services, app, server)
}

/** Trouble that a person can mend is told in plain words; anything else with its stack. */
function fail(error: unknown): never {
  const plain = [ConfigError, PrivateServerError, UnfitRedisError].some((kind) => error instanceof kind)
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  process.stderr.write(`${plain ? message : stack}\n`)
  process.exit(1)
}

main().catch(fail)
