/** HTTP as workers speak it: connections kept, a deadline of their own, and nothing told where no answer came. */
import http from 'node:http'
import type { Random } from './random.ts'
import type { Body, Send } from './caller.ts'

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 })

/** One request; undefined where no whole answer came within `timeoutMs`. */
export function request(
  base: string,
  method: string,
  path: string,
  body: unknown,
  timeoutMs: number,
): Promise<{ status: number; body: Body } | undefined> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  const headers = text === undefined ? {} : { 'content-type': 'application/json' }
  return new Promise((resolve) => {
    const call = http.request(`${base}${path}`, { method, headers, agent }, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', () => resolve(undefined))
      response.on('end', () => resolve(read(response.statusCode ?? 0, Buffer.concat(parts).toString())))
    })
    call.setTimeout(timeoutMs, () => call.destroy())
    call.on('error', () => resolve(undefined))
    call.on('close', () => resolve(undefined))
    call.end(text)
  })
}

function read(status: number, text: string): { status: number; body: Body } | undefined {
  try {
    return { status, body: text === '' ? undefined : JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** To any of some services; the next call goes to another. */
export const sendToAny =
  (services: readonly string[], random: Random, timeoutMs: number): Send =>
  (method, path, body) =>
    request(random.pick(services), method, path, body, timeoutMs)

const batched = /^\/api\/v1\/effects\/(?:(claim|complete|fail|release|renew)|([^/]+)\/resolve)$/

type Waiting = { operation: object; answer: (answer: { status: number; body: Body } | undefined) => void }

/** Calls about effects that are made within `windowMs` of each other travel as one batch. */
export function sendTogether(send: Send, windowMs: number): Send {
  let waiting: Waiting[] = []

  async function flush(): Promise<void> {
    const together = waiting
    waiting = []
    const answer = await send('POST', '/api/v1/effects/batch', {
      operations: together.map(({ operation }) => operation),
    })
    const results = answer?.status === 200 ? (answer.body.results as { status: number; body: Body }[]) : []
    for (const [index, { answer: tell }] of together.entries()) tell(results[index] ?? (answer && { ...answer }))
  }

  return (method, path, body) => {
    const [found, op, effect_id] = batched.exec(path) ?? []
    if (method !== 'POST' || found === undefined || (body as { wait_seconds?: number }).wait_seconds !== undefined) {
      return send(method, path, body)
    }
    const operation = { op: op ?? 'resolve', ...(effect_id === undefined ? {} : { effect_id }), ...(body as object) }
    return new Promise((answer) => {
      if (waiting.push({ operation, answer }) === 1) setTimeout(() => void flush(), windowMs)
    })
  }
}
