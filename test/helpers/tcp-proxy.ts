/**
 * A network that can be spoiled, between anybody and one TCP port of this machine: a service and Redis, a replica and its
 * primary, a Sentinel and both. Each direction is spoiled by itself, at any moment, for connections old and new.
 */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What happens to the bytes of one direction. Nothing, unless it says so. */
export interface Flow {
  /** Each piece arrives so much later. */
  delayMs?: number
  /** No more than this passes; what is behind waits. */
  bytesPerSecond?: number
  /** Pieces arrive in parts of at most so many bytes, each in a segment of its own. */
  sliceBytes?: number
  /** They wait until this ends, as under a lost route: TCP sends again. */
  hold?: boolean
  /** They vanish. TCP cannot do that and go on: a connection that has lost something is reset when this ends. */
  drop?: boolean
}

export type Direction = 'requests' | 'replies'

/** One connection through the proxy. */
export interface Passage {
  /** The address that the connection came from: `bind-source-addr` gives each Redis its own. */
  readonly from: string
  /** Ends both sides with RST. */
  reset(): void
}

/** Told of every piece before its flow applies; what it answers goes on instead, and nothing when it answers undefined. */
export type Watch = (piece: Buffer, passage: Passage, direction: Direction) => Buffer | undefined

export interface TcpProxy {
  readonly port: number
  readonly url: string
  /** Replaces what happens in a direction; `{}` mends it. */
  set(direction: Direction, flow: Flow): void
  watch: Watch | undefined
  /** Which connections a flow and `cut` are for, by the address they come from. All, unless a test says so. */
  applies: (from: string) => boolean
  /** Ends connections with RST; new ones are still taken. */
  reset(): void
  /** Nothing passes in any direction and nothing is told: new connections are taken and stay silent. */
  blackHole(): void
  /** Resets connections and refuses new ones. */
  cut(): void
  /** As at the start. */
  heal(): void
  /** How many connections there are, and have been. */
  readonly open: number
  readonly taken: number
}

interface Line extends Passage {
  client: net.Socket
  upstream: net.Socket
  /** Something was dropped. */
  broken: boolean
}

interface Way {
  line: Line
  flow: () => Flow
  to: net.Socket
}

interface Network {
  flows: Record<Direction, Flow>
  cut: boolean
  lines: Set<Line>
  taken: number
  /** Whoever waits for something to change. */
  waiting: (() => void)[]
}

function tellOfChange(network: Network): void {
  for (const wake of network.waiting.splice(0)) wake()
}

/** Until nothing holds this direction back, or nobody is there to receive. */
async function passable(network: Network, held: () => boolean | undefined, to: net.Socket): Promise<void> {
  while (held() && !to.destroyed) await new Promise<void>((resolve) => network.waiting.push(resolve))
}

/** Writes one piece as the flow of this moment says. */
async function carry(network: Network, { line, flow, to }: Way, piece: Buffer, dueMs: number): Promise<void> {
  const waitMs = dueMs - performance.now()
  if (waitMs > 0) await delay(waitMs)
  await passable(network, () => flow().hold, to)
  if (flow().drop) {
    line.broken = true
    return
  }
  const { sliceBytes = piece.length, bytesPerSecond } = flow()
  const partBytes = Math.max(1, bytesPerSecond === undefined ? sliceBytes : Math.min(sliceBytes, bytesPerSecond / 20))
  for (let at = 0; at < piece.length && !to.destroyed; at += partBytes) {
    const part = piece.subarray(at, at + partBytes)
    to.write(part)
    if (bytesPerSecond !== undefined) await delay((part.length * 1000) / bytesPerSecond)
    else if (at + partBytes < piece.length) await new Promise(setImmediate)
  }
}

/** Takes what arrives in one direction and carries it in order; the sender is stopped where too much waits. */
function pump(network: Network, proxy: TcpProxy, line: Line, direction: Direction): void {
  const [from, to] = direction === 'requests' ? [line.client, line.upstream] : [line.upstream, line.client]
  const flow = () => (proxy.applies(line.from) ? network.flows[direction] : {})
  let last = Promise.resolve()
  let waitingBytes = 0
  from.on('data', (arrived: Buffer) => {
    const piece = proxy.watch ? proxy.watch(arrived, line, direction) : arrived
    if (piece === undefined || piece.length === 0) return
    const { delayMs = 0 } = flow()
    const dueMs = performance.now() + delayMs
    waitingBytes += piece.length
    if (waitingBytes > 1024 * 1024) from.pause()
    last = last
      .then(() => carry(network, { line, flow, to }, piece, dueMs))
      .then(() => {
        waitingBytes -= piece.length
        if (!from.destroyed) from.resume()
      })
  })
  const farewell = () => passable(network, () => flow().hold, to).then(() => to.destroy())
  from.on('close', () => void last.then(farewell))
}

function accept(network: Network, proxy: TcpProxy, targetPort: number, client: net.Socket): void {
  const from = client.remoteAddress ?? ''
  if (network.cut && proxy.applies(from)) {
    client.on('error', () => undefined)
    client.resetAndDestroy()
    return
  }
  const upstream = net.connect(targetPort, '127.0.0.1')
  const reset = () => {
    client.resetAndDestroy()
    upstream.resetAndDestroy()
  }
  const line: Line = { client, upstream, from, broken: false, reset }
  network.lines.add(line)
  network.taken += 1
  for (const socket of [client, upstream]) {
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      if (client.destroyed && upstream.destroyed) network.lines.delete(line)
      tellOfChange(network)
    })
  }
  upstream.on('error', () => client.resetAndDestroy())
  pump(network, proxy, line, 'requests')
  pump(network, proxy, line, 'replies')
}

function createProxy(network: Network, port: number): TcpProxy {
  const change = (act: () => void) => {
    act()
    tellOfChange(network)
  }
  const resetWhere = (which: (line: Line) => boolean) => {
    for (const line of network.lines) if (which(line)) line.reset()
  }
  const proxy: TcpProxy = {
    port,
    url: `redis://127.0.0.1:${port}`,
    watch: undefined,
    applies: () => true,
    set: (direction, flow) =>
      change(() => {
        network.flows[direction] = flow
        if (!flow.drop) resetWhere(({ broken }) => broken)
      }),
    reset: () => resetWhere(({ from }) => proxy.applies(from)),
    blackHole: () => change(() => (network.flows = { requests: { hold: true }, replies: { hold: true } })),
    cut: () =>
      change(() => {
        network.cut = true
        proxy.reset()
      }),
    heal: () =>
      change(() => {
        network.flows = { requests: {}, replies: {} }
        network.cut = false
        proxy.watch = undefined
        proxy.applies = () => true
        resetWhere(({ broken }) => broken)
      }),
    get open() {
      return network.lines.size
    },
    get taken() {
      return network.taken
    },
  }
  return proxy
}

/** Listens on a free port of 127.0.0.1 until the end of the test. `targetPort` need not be listened on yet. */
export async function startProxy(
  t: { teardown(end: () => Promise<void>): void },
  targetPort: number,
  port = 0,
): Promise<TcpProxy> {
  const flows = { requests: {}, replies: {} }
  const network: Network = { flows, cut: false, lines: new Set(), taken: 0, waiting: [] }
  const server = net.createServer((client) => accept(network, proxy, targetPort, client))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', 4096, resolve)
  })
  const proxy = createProxy(network, (server.address() as net.AddressInfo).port)
  t.teardown(async () => {
    proxy.heal()
    for (const { client, upstream } of network.lines) {
      client.destroy()
      upstream.destroy()
    }
    await new Promise((resolve) => server.close(resolve))
  })
  return proxy
}

/** The next reply through a proxy is lost with its connection. */
export function loseReply(proxy: TcpProxy): void {
  proxy.watch = (piece, passage, direction) => {
    if (direction !== 'replies') return piece
    proxy.watch = undefined
    passage.reset()
    return undefined
  }
}
