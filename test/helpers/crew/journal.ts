/** The history on disk: every process writes a file of its own, one JSON object a line, kept even when it is killed. */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import type { HistoryEvent } from '../checker/history.ts'

/** The line is with the kernel when this returns: SIGKILL does not take it back. */
export function openJournal(file: string): (event: HistoryEvent) => void {
  const fd = openSync(file, 'a')
  return (event) => void writeSync(fd, `${JSON.stringify(event)}\n`)
}

/** Reads what has been added to a file since the last time; a line that is not whole yet waits. */
function createTail(file: string) {
  let position = 0
  return (): HistoryEvent[] => {
    const fd = openSync(file, 'r')
    try {
      const bytes = Buffer.alloc(fstatSync(fd).size - position)
      readSync(fd, bytes, 0, bytes.length, position)
      const end = bytes.lastIndexOf(10) + 1
      position += end
      const lines = bytes.toString('utf8', 0, end).split('\n')
      return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as HistoryEvent)
    } finally {
      closeSync(fd)
    }
  }
}

/** Reads many files together, up to an instant before which every one of them is whole. */
export function createJournals(read: (event: HistoryEvent) => void) {
  const tails: (() => HistoryEvent[])[] = []
  let later: HistoryEvent[] = []
  return {
    add: (file: string) => void tails.push(createTail(file)),
    readUntil(time: number): void {
      const events = [...later, ...tails.flatMap((tail) => tail())]
      later = events.filter((event) => event.time > time)
      for (const event of events) if (event.time <= time) read(event)
    },
  }
}
