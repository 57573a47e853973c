/** Structured logs: one JSON object a line, with ISO time and the level by name. Secrets never reach it. */
import { pino, type Logger, type LoggerOptions } from 'pino'
import { limits } from '../limits.ts'
import type { Metrics } from './metrics.ts'

/** Members that could carry a secret are cut out wherever they stand. */
const secret = ['authorization', 'password', '*.authorization', '*.password', 'headers.authorization']

/** Where lines go. A system call for each costs 5 to 10 µs, and to keep them back in pino's own destination 1.4. */
type Batch = { write: (line: string) => void; flushSync: () => void }

const batches = new Set<Batch>()

/** What still waits when the process ends is written then. */
function flushAtExit(batch: Batch): void {
  if (batches.size === 0) process.on('exit', () => batches.forEach(({ flushSync }) => flushSync()))
  batches.add(batch)
}

/**
 * Writes lines together: after `limits.logFlushMs` at the latest, with a `fatal` one, and at the end of the process. Who reads
 * too slowly loses lines, and holds up nothing.
 */
function createBatch(writeCharsMax: number): Batch {
  const output = pino.destination({ dest: 1, sync: false, maxLength: limits.logQueueBytesMax, maxWrite: writeCharsMax })
  let waiting = ''
  let timer: NodeJS.Timeout | undefined
  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    if (waiting !== '') output.write(waiting)
    waiting = ''
  }
  const batch = {
    write(line: string): void {
      if (waiting.length + line.length > writeCharsMax) flush()
      waiting += line
      timer ??= setTimeout(flush, limits.logFlushMs).unref()
    },
    flushSync(): void {
      flush()
      output.flushSync()
    },
  }
  flushAtExit(batch)
  return batch
}

/** A logger that writes to standard output. `level` is one of pino's; `worker` is in every line, if there are several. */
export function createLog(level: string, worker?: number): Logger {
  const options: LoggerOptions = {
    level,
    base: worker === undefined ? null : { worker },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: secret, remove: true },
  }
  // Several processes write to one pipe: what is longer could be torn apart by another one's lines.
  return pino(options, createBatch(worker === undefined ? limits.logWriteCharsMax : limits.logPipeCharsMax))
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
