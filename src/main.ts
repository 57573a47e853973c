/**
 * The process: load the configuration, start the private Redis if there is one, then serve; or, where there shall be
 * several, lead those that do. Ends on SIGTERM and SIGINT when all calls are answered. Read first.
 */
import cluster from 'node:cluster'
import { availableParallelism } from 'node:os'
import { isatty } from 'node:tty'
import type { Logger } from 'pino'
import { type Config, ConfigError, loadConfig, usesPrivateRedis } from './config.ts'
import { limits } from './limits.ts'
import { createLog, surviveFaults } from './observability/log.ts'
import { alone } from './processes/fellows.ts'
import type { Farewell, Where } from './processes/messages.ts'
import { createPrimary, WorkerError } from './processes/primary.ts'
import { joinPrimary } from './processes/worker.ts'
import type { StoreAddress } from './redis/connection.ts'
import { type PrivateServer, PrivateServerError, startPrivateServer } from './redis/private-server.ts'
import { serve, type Serving, UnfitRedisError } from './serve.ts'

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
  const { url, sentinels, name, sentinel_password, cluster: servers, username, password, tls } = config.redis
  if (server) return { url: `unix://${server.socketPath}`, username: null, password: null, tls: null }
  const credentials = { username, password, tls }
  if (sentinels !== null) return { ...credentials, sentinels, name: name ?? '', sentinel_password }
  return servers === null ? { ...credentials, url: url ?? '' } : { ...credentials, cluster: servers }
}

const whereOf = (config: Config, server: PrivateServer | undefined): Where => ({
  address: addressOf(config, server),
  place: placeOf(config, server),
})

type Stop = (why: string, exitCode: number, farewell?: Farewell) => void

/** Answers the function that begins the drain, once; `why` is logged. */
function createStop(log: Logger, drain: (farewell: Farewell) => Promise<void>): Stop {
  let stopping = false
  return (why, exitCode, farewell = { noticeMs: 0, replaced: false }) => {
    if (stopping) return
    stopping = true
    log.info({ why }, 'draining')
    const tooLong = (): void => {
      log.error({ seconds: limits.drainTimeoutMs / 1000 }, 'the drain takes too long')
      process.exit(1)
    }
    setTimeout(tooLong, limits.drainTimeoutMs).unref()
    drain(farewell).then(
      () => process.exit(exitCode),
      (error: unknown) => {
        log.error({ err: error }, 'the drain failed')
        process.exit(1)
      },
    )
  }
}

/** SIGTERM leaves load balancers a moment to turn away; a person at a terminal is not kept waiting. */
function stopOnSignals(stop: Stop): void {
  process.on('SIGTERM', () => stop('SIGTERM', 0, { noticeMs: limits.drainNoticeMs, replaced: false }))
  process.on('SIGINT', () => stop('SIGINT', 0))
}

function stopWithRedis(stop: Stop, server: PrivateServer | undefined): void {
  void server?.exited.then(({ requested }) => {
    if (!requested) stop('the private Redis has ended', 1)
  })
}

/** The only process behind its port. */
async function serveAlone(config: Config, log: Logger, server: PrivateServer | undefined): Promise<void> {
  const started: { serving?: Serving } = {}
  const stop = createStop(log, async (farewell) => {
    await started.serving?.drain(farewell)
    await server?.stop()
  })
  stopOnSignals(stop)
  stopWithRedis(stop, server)
  const { port } = config.server
  const serving = await serve({ config, where: whereOf(config, server), port, processes: 1, fellows: alone, log })
  started.serving = serving
  process.stdout.write(serving.greeting)
}

/** Two stores at the same time would grant one effect twice. */
function refuseOtherStore(running: Config, next: Config): void {
  const storeOf = ({ redis: { url, sentinels, name, cluster: servers }, retry }: Config) =>
    JSON.stringify({ url, sentinels, name, servers, namespace: retry.redis.namespace })
  if (storeOf(running) === storeOf(next)) return
  throw new ConfigError(['Where Redis is, and retry.redis.namespace, change only with a stop and a start.'])
}

/** SIGHUP reads the configuration again and replaces the workers. A terminal that closes sends it too, and is gone then. */
function restartOnSignal(log: Logger, config: Config, restart: (next: Config) => void, stop: Stop): void {
  const atTerminal = isatty(0)
  process.on('SIGHUP', () => {
    if (atTerminal && !isatty(0)) return stop('the terminal has closed', 0)
    try {
      const next = loadConfig()
      refuseOtherStore(config, next)
      restart(next)
    } catch (error) {
      log.error({ err: error }, 'this configuration cannot be used; the running one stays')
    }
  })
}

/** The primary process of `count` workers. */
async function lead(config: Config, log: Logger, server: PrivateServer | undefined, count: number): Promise<void> {
  const giveUp = (why: string): void => {
    process.stderr.write(`${why}\n`)
    stop('worker processes cannot start', 1)
  }
  const primary = createPrimary({ config, whereOf: (next) => whereOf(next, server), count, log, giveUp })
  const stop = createStop(log, async ({ noticeMs }) => {
    await primary.drain(noticeMs)
    await server?.stop()
  })
  surviveFaults(log, { fault: () => undefined })
  stopOnSignals(stop)
  restartOnSignal(log, config, primary.restart, stop)
  stopWithRedis(stop, server)
  process.stdout.write((await primary.start()) ?? '')
}

/** One of several behind a port, led by a primary process. */
async function work(): Promise<void> {
  let serving: Serving | undefined
  // Until there is something to let go of.
  let stop: Stop = () => process.exit(0)
  const primary = joinPrimary({
    drain(farewell) {
      if (!farewell.replaced) serving?.unready()
      stop('the primary process asks for it', 0, farewell)
    },
    own: () => serving?.registry,
  })
  // Ctrl-C and the end of a terminal reach every process; the primary knows what to do then.
  for (const signal of ['SIGINT', 'SIGHUP']) process.on(signal, () => undefined)
  const { worker, uptimeSeconds, ...orders } = await primary.orders
  const log = createLog(orders.config.server.log_level, worker)
  stop = createStop(log, async (farewell) => {
    await serving?.drain(farewell)
    await primary.farewell()
  })
  process.on('SIGTERM', () => stop('SIGTERM', 0, { noticeMs: limits.drainNoticeMs, replaced: true }))
  try {
    serving = await serve({ ...orders, fellows: primary.fellows(uptimeSeconds), log })
  } catch (error) {
    await primary.tell({ type: 'failed', message: messageOf(error) })
    process.exit(1)
  }
  await primary.tell({ type: 'serving', port: serving.port, greeting: serving.greeting })
}

async function main(): Promise<void> {
  if (cluster.isWorker) return work()
  const config = loadConfig()
  const { log_level, data_dir, processes } = config.server
  const log = createLog(log_level)
  const server = usesPrivateRedis(config.redis) ? await startPrivateServer({ dataDir: data_dir, log }) : undefined
  const count = processes === 'auto' ? availableParallelism() : processes
  return count === 1 ? serveAlone(config, log, server) : lead(config, log, server, count)
}

/** What a person can mend: a port that is taken, an address that is not ours. */
const plainCodes = ['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES']

/** Trouble that a person can mend is told in plain words; anything else with its stack. */
function messageOf(error: unknown): string {
  const plain = [ConfigError, PrivateServerError, UnfitRedisError, WorkerError]
  const { message, stack, code = '' }: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error))
  return plain.some((kind) => error instanceof kind) || plainCodes.includes(code) ? message : (stack ?? message)
}

main().catch((error: unknown) => {
  process.stderr.write(`${messageOf(error)}\n`)
  process.exit(1)
})
