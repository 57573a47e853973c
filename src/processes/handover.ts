/**
 * The connections that a worker was handed and had not taken when it was killed. Node 20 forgets them, so that their
 * callers would wait until they lose patience; and it does not tell of the worker's disconnect, which it puts off until the
 * worker has taken them. Told that they are not taken, node:cluster hands them to another worker.
 *
 * These are Node's own messages between its two sides (lib/internal/cluster/utils.js). Where another version speaks
 * otherwise nothing is found here, and nothing else is lost.
 */
import type { Worker } from 'node:cluster'

type Internal = { cmd?: unknown; act?: unknown; seq?: unknown; ack?: unknown }

const isInternal = (message: unknown): message is Internal =>
  typeof message === 'object' && message !== null && 'cmd' in message && message.cmd === 'NODE_CLUSTER'

/** Watches what is handed to a worker from now on. */
export function redeliver({ process: child }: Worker): void {
  const handed = new Set<unknown>()
  const send = child.send.bind(child) as (...args: unknown[]) => boolean
  child.send = (message: unknown, ...rest: unknown[]) => {
    if (isInternal(message) && message.act === 'newconn') handed.add(message.seq)
    return send(message, ...rest)
  }
  child.on('internalMessage', ({ ack }: Internal) => void handed.delete(ack))
  // By then all that the worker has said was read, and it is no longer among those who get connections.
  child.once('disconnect', () => {
    for (const ack of handed) child.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack, accepted: false })
    handed.clear()
  })
  const tellDisconnect = (): void => {
    if (child.connected) setImmediate(tellDisconnect)
    else if (handed.size > 0) child.emit('disconnect')
  }
  child.once('exit', tellDisconnect)
}
