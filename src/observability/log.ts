/** Structured logs: one JSON object a line, with ISO time and the level by name. Secrets never reach it. */
import { pino, type Logger } from 'pino'

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
