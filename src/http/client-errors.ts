/** What never becomes a request, or stops in the middle of one: told as every other problem is. */
import { randomUUID } from 'node:crypto'
import { maxHeaderSize, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { ConnectionError } from 'fastify'
import type { Logger } from 'pino'
import { Problem, problemBody } from '../problems.ts'
import { unreadable } from './errors.ts'
import { linger } from './linger.ts'
import { Message } from './whole-body.ts'

const tooSlow = (): Problem => new Problem('request-timeout', 'The request did not arrive in time.')

/** By the codes of Node and of its parser, llhttp. */
function problemOf({ code, message }: ConnectionError): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Problem('headers-too-large', `Path and headers exceed ${maxHeaderSize} bytes.`)
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem('payload-too-large', 'The extensions of a chunk exceed their limit.')
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return tooSlow()
    case 'HPE_INVALID_EOF_STATE':
      return unreadable('The connection ends in the middle of the request.')
    default:
      return unreadable(`This is no request of HTTP/1.1. ${message}.`)
  }
}

/** The answer that a connection is waiting for. Node keeps it there, under no public name. */
const answering = (socket: Socket): ServerResponse | undefined =>
  (socket as { _httpMessage?: ServerResponse | null })._httpMessage ?? undefined

/** Whoever waits for the rest of a body answers in the usual way. */
function refuseBody(socket: Socket, problem: () => Problem): boolean {
  const request = answering(socket)?.req
  return request instanceof Message && request.refuse(problem)
}

function answer(socket: Socket, problem: Problem, id: string, date: string): void {
  const body = JSON.stringify(problemBody(problem, id))
  const lines = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${id}`,
    `Date: ${date}`,
    'Connection: close',
  ]
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
  linger(socket)
}

/**
 * For `clientError`: Node leaves the connection to whoever listens, and tells of all that still comes on it. `nowMs` is the
 * process's own clock.
 */
export function createClientErrors(log: Logger, nowMs: () => number) {
  return (error: ConnectionError, socket: Socket): void => {
    if (socket.writable && refuseBody(socket, () => problemOf(error))) return
    // It lingers already.
    if (socket.writableEnded && !socket.readableEnded && !socket.destroyed) return
    // An answer to this would be taken for the one that is still to come.
    if (!socket.writable || error.code === 'ECONNRESET' || answering(socket)) return void socket.destroy()
    const problem = problemOf(error)
    const id = randomUUID()
    log.info({ request_id: id, status: problem.status, cause: error.code }, 'no request')
    answer(socket, problem, id, new Date(nowMs()).toUTCString())
  }
}

/** For `timeout`: nothing came for `limits.requestReceiveTimeoutMs`, or a kept connection was not used. */
export function endSilent(socket: Socket): void {
  if (!refuseBody(socket, tooSlow)) socket.destroy()
}
