/**
 * The driver's HTTP client: one keep-alive connection, one request at a time, no object for headers. Two processors carry
 * the driver too, and a worker pays 56 µs a request with undici and 92 with node:http; this takes about 15, so that the
 * servers are what is measured.
 */
import net from 'node:net'

/** An answer that the scenario did not expect ends the contender, not the run. */
export class WrongAnswer extends Error {}

const headEnd = '\r\n\r\n'

export class Client {
  #socket
  #received = ''
  #waiting = null

  /** `port` of 127.0.0.1. Resolves when connected. `readBytes`: how much of an answer is taken at once. */
  static async connect(port, readBytes = 64 * 1024) {
    const client = new Client()
    await client.#open(port, Buffer.allocUnsafe(readBytes))
    return client
  }

  #open(port, buffer) {
    const onread = { buffer, callback: (size) => this.#take(buffer.latin1Slice(0, size)) }
    return new Promise((resolve, reject) => {
      this.#socket = net.connect({ port, host: '127.0.0.1', noDelay: true, onread }, resolve)
      this.#socket.on('error', (error) => this.#fail(error) || reject(error))
      this.#socket.on('close', () => this.#fail(new WrongAnswer('the server closed the connection')))
    })
  }

  /** Sends the text of a whole request; resolves to `{status, body}`, the body as text of one byte a character. */
  ask(request) {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#socket.write(request, 'latin1')
    })
  }

  close() {
    this.#socket.destroy()
  }

  #fail(error) {
    const waiting = this.#waiting
    this.#waiting = null
    waiting?.reject(error)
    return waiting !== null
  }

  #take(text) {
    const received = this.#received === '' ? text : this.#received + text
    const answer = parseAnswer(received)
    this.#received = answer === null ? received : ''
    if (answer === null || this.#waiting === null) return true
    const { resolve } = this.#waiting
    this.#waiting = null
    resolve(answer)
    return true
  }
}

/** One whole answer, or null while some of it is missing. Nothing follows it: requests are not pipelined. */
function parseAnswer(text) {
  const end = text.indexOf(headEnd)
  if (end < 0) return null
  const start = end + headEnd.length
  const status = Number(text.slice(9, 12))
  const head = text.slice(0, end).toLowerCase()
  const at = head.indexOf('\r\ncontent-length:')
  if (at >= 0) {
    const length = parseInt(head.slice(at + 17, at + 32), 10)
    return text.length - start < length ? null : { status, body: text.slice(start, start + length) }
  }
  if (head.includes('\r\ntransfer-encoding: chunked')) return parseChunks(text, start, status)
  return { status, body: '' }
}

function parseChunks(text, start, status) {
  let body = ''
  for (let at = start; ;) {
    const lineEnd = text.indexOf('\r\n', at)
    if (lineEnd < 0) return null
    const size = parseInt(text.slice(at, lineEnd), 16)
    const next = lineEnd + 2 + size + 2
    if (text.length < next) return null
    if (size === 0) return { status, body }
    body += text.slice(lineEnd + 2, lineEnd + 2 + size)
    at = next
  }
}

/** The text of a POST with a JSON body; `headers` are whole lines, each ending in CRLF. */
export const post = (path, body, headers = '') =>
  `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n${headers}` +
  `Content-Length: ${body.length}\r\n\r\n${body}`

export const get = (path, headers = '') => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`
