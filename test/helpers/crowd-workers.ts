/**
 * Thousands of workers in a process of their own, each on its socket: everybody claims one effect and does as the answer
 * says, until it is granted. Orders come from the parent, one at a time; so do the answers, as one `Round`.
 */
import { randomUUID } from 'node:crypto'
import net from 'node:net'

/** Everybody claims an effect of its own, again after `Retry-After`, with the same `claim_id`, until it is granted. */
export type Order = { port: number; workers: number; deadlineMs: number }

/** One answer: when it was asked for and when it came, in milliseconds of the machine's clock; 0: the connection broke. */
export type Told = { worker: number; askedMs: number; answeredMs: number; status: number; reason: string }

export type Round = { told: Told[]; granted: number; lagMs: number }

const nowMs = (): number => performance.timeOrigin + performance.now()

type Answer = { status: number; retryAfterSeconds: number; body: string }

/** The whole answer at the start of `text`, or nothing yet. */
function parse(text: string): Answer | undefined {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const head = text.slice(0, end)
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)
  if (text.length < end + 4 + length) return undefined
  const retryAfterSeconds = Number(/retry-after: (\d+)/i.exec(head)?.[1] ?? 1)
  return { status: Number(head.slice(9, 12)), retryAfterSeconds, body: text.slice(end + 4, end + 4 + length) }
}

/** A connection that is kept, and made anew when it was lost. One request at a time. */
function createClient(port: number) {
  let socket: net.Socket | undefined
  let received = ''
  let settle: ((answer: Answer | undefined) => void) | undefined
  const finish = (answer: Answer | undefined) => {
    const told = settle
    settle = undefined
    received = ''
    told?.(answer)
  }
  function connect(): net.Socket {
    const made = net.connect(port, '127.0.0.1')
    made.setEncoding('latin1')
    made.on('data', (text: string) => {
      received += text
      const answer = parse(received)
      if (answer) finish(answer)
    })
    made.on('error', () => undefined)
    made.on('close', () => {
      if (socket === made) socket = undefined
      finish(undefined)
    })
    return made
  }
  return {
    post(path: string, body: string): Promise<Answer | undefined> {
      socket ??= connect()
      const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\n`
      socket.write(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
      return new Promise((resolve) => (settle = resolve))
    },
  }
}

type Client = ReturnType<typeof createClient>
const clients: Client[] = []

async function work(client: Client, worker: number, endMs: number, told: Told[]): Promise<boolean> {
  const claim = { type: 'order_placement', entity: randomUUID(), owner: `worker-${worker}`, claim_id: randomUUID() }
  for (;;) {
    const askedMs = nowMs()
    const answer = await client.post('/api/v1/effects/claim', JSON.stringify(claim))
    const status = answer?.status ?? 0
    const reason = /"reason":"(\w+)"/.exec(answer?.body ?? '')?.[1] ?? ''
    told.push({ worker, askedMs, answeredMs: nowMs(), status, reason })
    if (status === 201) return true
    if (nowMs() > endMs) return false
    await new Promise((resolve) => setTimeout(resolve, (answer?.retryAfterSeconds ?? 1) * 1000))
  }
}

/** How late this process's own timers are: what it measures of others cannot be better than that. */
function watchLag() {
  let lastMs = performance.now()
  let lagMs = 0
  const timer = setInterval(() => {
    lagMs = Math.max(lagMs, performance.now() - lastMs - 20)
    lastMs = performance.now()
  }, 20)
  return () => {
    clearInterval(timer)
    return lagMs
  }
}

process.on('message', ({ port, workers, deadlineMs }: Order) => {
  while (clients.length < workers) clients.push(createClient(port))
  const told: Told[] = []
  const lag = watchLag()
  const endMs = nowMs() + deadlineMs
  const all = clients.slice(0, workers).map((client, worker) => work(client, worker, endMs, told))
  void Promise.all(all).then((granted) => {
    const round: Round = { told, granted: granted.filter(Boolean).length, lagMs: lag() }
    process.send?.(round)
  })
})
process.on('disconnect', () => process.exit())
process.send?.('ready')
