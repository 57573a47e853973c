/**
 * How a connection ends whose caller is still sending. Closed with bytes that nobody has read, a socket is reset, and a caller that
 * reads only when it has sent everything never sees its answer: it would send the same 21 MB for ever. So our side ends behind the
 * answer, and what still comes is thrown away, as nginx's lingering close does it.
 */
import { type IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { limits } from '../limits.ts'

/**
 * Ends the connection behind what was written; the caller has `limits.lingerMs` and `limits.lingerBytesMax` to end it too.
 * `sent`: whether everything has come that there was to come.
 */
export function linger(socket: Socket, sent: () => boolean = () => false): void {
  const bytesMax = socket.bytesRead + limits.lingerBytesMax
  const endMs = performance.now() + limits.lingerMs
  // A listener to the data would take the socket from Node's parser, which may have stopped reading and would not go on.
  const tick = setInterval(() => {
    if (socket.bytesRead > bytesMax || performance.now() > endMs) socket.destroy()
    else if (sent() && socket.writableFinished) socket.destroy()
  }, limits.lingerTickMs)
  socket.once('close', () => clearInterval(tick))
  socket.end()
}

/** Node makes one of each response, and has the socket destroyed behind the last one of a connection. */
export class Response<Request extends IncomingMessage = IncomingMessage> extends ServerResponse<Request> {
  override detachSocket(socket: Socket): void {
    super.detachSocket(socket)
    const { req } = this
    if (req.complete) return
    socket.destroySoon = () => {
      if (req.complete) Socket.prototype.destroySoon.call(socket)
      else linger(socket, () => req.complete)
    }
  }
}
