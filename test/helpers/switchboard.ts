/** One address that leads to one Redis after the other, as a virtual address does in a failover. */
import net from 'node:net'

export interface Switchboard {
  readonly url: string
  /** From now on it leads to this port; connections to the one before end. */
  lead(port: number): void
}

/** Listens on a free port of 127.0.0.1 until the end of the test. */
export async function startSwitchboard(
  t: { teardown(end: () => Promise<void>): void },
  firstPort: number,
): Promise<Switchboard> {
  let target = firstPort
  const sockets = new Set<net.Socket>()
  const endAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  const server = net.createServer((client) => {
    const upstream = net.connect(target, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('error', () => from.destroy())
      from.on('data', (piece: Buffer) => void to.write(piece))
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    endAll()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    url: `redis://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    lead(port) {
      target = port
      endAll()
    },
  }
}
