/** The process: load the configuration, connect (or start the private Redis), listen, drain on SIGTERM. */
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { buildApp } from './app.ts'
import { type Config, ConfigError, describeBinding, loadConfig } from './config.ts'
import { limits } from './limits.ts'
import { createLog } from './observability/log.ts'
import { type PrivateServer, PrivateServerError, startPrivateServer } from './redis/private-server.ts'
import type { StoreAddress } from './redis/client.ts'
import { createServices, type Services } from './services.ts'

/** Where Redis is: as configured, or the private server's socket. */
function addressOf(config: Config, server: PrivateServer | undefined): StoreAddress {
  const { url, username, password, tls } = config.redis
  if (server) return { url: `unix://${server.socketPath}`, username: null, password: null, tls: null }
  return { url: url ?? '', username, password, tls }
}

/** What a person who starts it wants to see first. */
function greet(config: Config, app: FastifyInstance, server: PrivateServer | undefined): void {
  const { port } = app.server.address() as AddressInfo
  const { url, warning } = describeBinding(config, port)
  const redis = server ? `private (${server.mode}), data in ${config.server.data_dir}` : (config.redis.url ?? '')
  const lines = [
    `Effectonce listens on ${url}`,
    `  docs    ${url}/docs`,
    `  redis   ${redis.replace(/\/\/[^@/]*@/, '//')}`,
    ...(warning === null ? [] : [`  warning ${warning}`]),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

/** Stops taking calls, answers those under way, then lets go of Redis. */
async function drain(app: FastifyInstance, services: Services, server: PrivateServer | undefined): Promise<void> {
  await app.close()
  await services.stop()
  await server?.stop()
}

/** Answers the function that begins the drain, once; `why` is logged. */
function stopOnSignals(log: Logger, drainAll: () => Promise<void>): (why: string, exitCode: number) => void {
  let stopping = false
  const begin = (why: string, exitCode: number) => {
    if (stopping) return
    stopping = true
    log.info({ why }, 'draining')
    setTimeout(() => process.exit(1), limits.drainTimeoutMs).unref()
    drainAll().then(
      () => process.exit(exitCode),
      (error: unknown) => {
        log.error({ err: error }, 'the drain failed')
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', () => begin('SIGTERM', 0))
  process.on('SIGINT', () => begin('SIGINT', 0))
  return begin
}

async function main(): Promise<void> {
  const config = loadConfig()
  const log = createLog(config.server.log_level)
  const server =
    config.redis.url === null ? await startPrivateServer({ dataDir: config.server.data_dir, log }) : undefined
  const services = createServices({ config, address: addressOf(config, server), log })
  const app = await buildApp(services)
  const stop = stopOnSignals(log, () => drain(app, services, server))
  void server?.exited.then(({ requested }) => {
    if (!requested) stop('the private Redis has ended', 1)
  })
  services.start()
  await app.listen({ host: config.server.host, port: config.server.port })
  greet(config, app, server)
}

/** Trouble that a person can mend is told in plain words; anything else with its stack. */
function fail(error: unknown): never {
  const plain = error instanceof ConfigError || error instanceof PrivateServerError
  process.stderr.write(`${plain ? error.message : String(error instanceof Error ? error.stack : error)}\n`)
  process.exit(1)
}

main().catch(fail)
