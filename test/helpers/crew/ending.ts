/** The end of a run: everything settled, every effect read once more, the audit read whole. */
import { setTimeout as delay } from 'node:timers/promises'
import type { AuditEntry } from '../checker/rules/audit.ts'
import type { Caller, Send } from './caller.ts'

/** Until `look` finds nothing left; throws after `deadlineMs` of the wall. `pass` lets time go by. */
export async function settleAll(
  look: () => Promise<number | undefined>,
  pass: () => Promise<unknown>,
  deadlineMs: number,
): Promise<void> {
  const until = performance.now() + deadlineMs
  for (;;) {
    const left = await look()
    if (left === 0) return
    if (performance.now() > until) throw new Error(`after ${deadlineMs} ms ${left ?? 'nobody knows how many'} are left`)
    if (left !== undefined) await pass()
  }
}

/** Asks until it is answered. */
async function answered(send: Send, path: string) {
  for (let tries = 0; tries < 100; tries++) {
    const answer = await send('GET', path)
    if (answer && answer.status < 500) return answer
    await delay(100)
  }
  throw new Error(`no answer: ${path}`)
}

/** Reads each effect once more, so many at a time. */
export async function readAll(caller: Caller, effects: string[], atOnce: number): Promise<void> {
  const waiting = [...effects]
  const reader = async () => {
    for (let effect = waiting.pop(); effect !== undefined; effect = waiting.pop()) await readOne(caller, effect)
  }
  await Promise.all(Array.from({ length: atOnce }, reader))
}

async function readOne(caller: Caller, effect: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const { told } = await caller.get(effect)
    if (told.status === 200 || told.status === 404) return
    await delay(100)
  }
  throw new Error(`no answer: ${effect}`)
}

/** All entries, newest first, and what the service finds when it verifies them. */
export async function readAudit(send: Send): Promise<{ entries: AuditEntry[]; verified: boolean }> {
  const entries: AuditEntry[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const from: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const { body } = await answered(send, `/api/v1/audit?limit=500${from}`)
    entries.push(...(body.entries as AuditEntry[]))
    cursor = body.next_cursor as string | null
  }
  const { body } = await answered(send, '/api/v1/audit/verify')
  return { entries, verified: body.ok === true }
}
