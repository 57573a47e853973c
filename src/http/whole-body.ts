/**
 * A request whose body is taken whole. Through its stream a body costs three listeners, six turns and a copy: a tenth of all
 * that a claim costs this process.
 */
import { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { Problem } from '../problems.ts'

type Done = (error: Problem | null, body?: Buffer) => void

const tooLarge = (): Problem => new Problem('payload-too-large', 'The body exceeds the limit of this call.')
const cutOff = (): Problem => new Problem('invalid-json', 'The body does not have the length that was announced.')

/** What has come of a body. */
class Gathering {
  readonly #chunks: Buffer[] = []
  readonly #bytesMax: number
  readonly #done: Done
  #bytes = 0
  #settled = false

  constructor(bytesMax: number, done: Done) {
    this.#bytesMax = bytesMax
    this.#done = done
  }

  add(chunk: Buffer): void {
    if (this.#settled) return
    this.#bytes += chunk.length
    if (this.#bytes > this.#bytesMax) this.fail(tooLarge)
    else this.#chunks.push(chunk)
  }

  end(): void {
    if (this.#settled) return
    this.#settled = true
    const [first = Buffer.alloc(0), second] = this.#chunks
    this.#done(null, second ? Buffer.concat(this.#chunks, this.#bytes) : first)
  }

  /** Answers whether it was still waiting. */
  fail(problem: () => Problem): boolean {
    if (this.#settled) return false
    this.#settled = true
    // Else it would be kept until the rest has come and been thrown away.
    this.#chunks.length = 0
    this.#done(problem())
    return true
  }
}

const streamEnded = Object.getOwnPropertyDescriptor(Readable.prototype, 'readableEnded') as { get: () => boolean }

/** Node makes one of each request, and pushes into it what its parser finds. */
export class Message extends IncomingMessage {
  #gathering: Gathering | undefined

  static {
    // By it Node tells whether it may let go of a message that was answered.
    Object.defineProperty(this.prototype, 'readableEnded', {
      get(this: Message) {
        return this.#gathering ? this.complete : streamEnded.get.call(this)
      },
    })
  }

  /** Instead of the stream; before anything of the body has been pushed. */
  gather(gathering: Gathering): void {
    this.#gathering = gathering
    // Else Node reads what nobody has read from the stream.
    Object.assign(this, { _consuming: true })
  }

  /** Whoever waits for the rest of the body is told `problem` instead; answers whether anybody did. */
  refuse(problem: () => Problem): boolean {
    return this.#gathering?.fail(problem) ?? false
  }

  override push(chunk: Buffer | null): boolean {
    if (!this.#gathering) return super.push(chunk)
    if (chunk) this.#gathering.add(chunk)
    else this.#gathering.end()
    return true
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#gathering?.fail(cutOff)
    super._destroy(error, callback)
  }
}

/** Tells the body, once: `payload-too-large` beyond `bytesMax`, `invalid-json` where the caller goes before its end. */
export function takeBody(message: IncomingMessage, bytesMax: number, done: Done): void {
  if (Number(message.headers['content-length']) > bytesMax) return done(tooLarge())
  const gathering = new Gathering(bytesMax, done)
  if (message instanceof Message) return message.gather(gathering)
  // A request that came over no connection, as tests inject it.
  message.on('data', (chunk: Buffer) => gathering.add(chunk))
  message.on('end', () => gathering.end())
  message.on('error', () => gathering.fail(cutOff))
}
