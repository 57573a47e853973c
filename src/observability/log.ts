/** Structured logs: one JSON object a line, with ISO time and the level by name. Secrets never reach it. */
import { pino, type Logger } from 'pino'
import type { Metrics } from './metrics.ts'

/** Members that could carry a secret are cut out wherever they stand. */
const secret = ['authorization', 'password', '*.authorization', '*.password', 'headers.authorization']

/** A logger that writes to standard output. `level` is one of pino's. */
export function createLog(level: string): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: secret, remove: true },
  })
}

/**
 * What nobody caught is our own mistake: it is told and counted, and the process goes on. That is safe here, since all
 * state is in Redis and changes in one script at a time. Answers the function that ends the watch.
 */
export function surviveFaults(log: Logger, metrics: Pick<Metrics, 'fault'>): () => void {
  const tell = (error: unknown): void => {
    metrics.fault('background')
    log.error({ err: error }, 'an error that nobody caught')
  }
  process.on('unhandledRejection', tell)
  process.on('uncaughtException', tell)
  return () => {
    process.off('unhandledRejection', tell)
    process.off('uncaughtException', tell)
  }
}
