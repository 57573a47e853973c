/**
 * Audit entries and retry decisions as JSON lines, one file a day. The files are copies for people and tools: the audit
 * itself is in Redis, so trouble with a folder is logged and counted and never stops anything.
 */
import { appendFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { stringifyWithRaw } from '../json.ts'
import { limits } from '../limits.ts'

export type AuditFilesOptions = {
  /** `retry.audit_log_path`; null: nothing is written. Made when the first line comes. */
  folder: string | null
  log: Logger
  /** The process's clock, milliseconds: it names the files. */
  nowMs: () => number
  /** Told how many lines no file will ever hold. */
  lost: (lines: number) => void
}

/** What a line is: an entry of the audit, the head of the chain, or a retry decision. */
export type LineKind = 'audit' | 'audit_head' | 'retry_decision'

export function createAuditFiles({ folder, log, nowMs, lost }: AuditFilesOptions) {
  let waiting: string[] = []
  let waitingBytes = 0
  let writing: Promise<void> | undefined
  let failing = false

  function fail(lines: number, error: unknown): void {
    lost(lines)
    // Once for each time that it begins: a full disk must not fill the log as well.
    if (!failing) log.error({ err: error, folder }, 'audit lines cannot be written')
    failing = true
  }

  async function append(path: string, lines: readonly string[]): Promise<void> {
    const name = `${new Date(nowMs()).toISOString().slice(0, 10)}.jsonl`
    try {
      await mkdir(path, { recursive: true })
      await appendFile(join(path, name), lines.join(''))
      if (failing) log.info({ folder }, 'audit lines are written again')
      failing = false
    } catch (error) {
      fail(lines.length, error)
    }
  }

  async function drain(path: string): Promise<void> {
    while (waiting.length > 0) {
      const lines = waiting
      waiting = []
      waitingBytes = 0
      await append(path, lines)
    }
    writing = undefined
  }

  return {
    /** Adds a line `{kind, …object}`, a moment later. Never fails, never waits. */
    write(kind: LineKind, object: object): void {
      if (folder === null) return
      // A line break between the members of JSON that was kept byte for byte is no more than space.
      const line = `${stringifyWithRaw({ kind, ...object }, JSON.stringify).replaceAll(/[\r\n]+/g, ' ')}\n`
      if (waitingBytes + line.length > limits.auditFileQueueBytesMax) {
        return fail(1, new Error('too many lines wait to be written'))
      }
      waiting.push(line)
      waitingBytes += line.length
      writing ??= drain(folder)
    },
    /** When everything so far has been written or given up. */
    settled: async (): Promise<void> => writing,
  }
}

export type AuditFiles = ReturnType<typeof createAuditFiles>
