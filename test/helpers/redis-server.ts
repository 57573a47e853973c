/**
 * A real Redis for one test: its own process, port and folder, ended by its pid. Nothing here mocks anything, and
 * nothing here needs a client library: `redisCli` speaks just enough of the protocol (RESP2) itself.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const startDeadlineMs = 5000
const cliDeadlineMs = 5000
const portAttempts = 5

/** What a server's own log says, and a Sentinel's. */
const ready = /Ready to accept connections|Sentinel ID is/

/** Where util-linux lives. It asks the kernel to end the server with its parent, however the parent ends. */
const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => existsSync(file))

export interface RedisOptions {
  /** Further arguments of `redis-server`, for example `['--appendonly', 'yes']`. They win over the defaults. */
  args?: string[]
  /** Default: `redis-server`, as PATH finds it. */
  program?: string
  /** Default: a free one. */
  port?: number
  /** The folder for its data. Default: a temporary one that is removed at the end; a given one is left alone. */
  dir?: string
  /** The text of a configuration file of its own, which it may write anew: a Sentinel needs one. */
  config?: string
}

export interface RedisServer {
  readonly port: number
  readonly url: string
  readonly dir: string
  /** Of the running process; that of the last one when it is down. */
  readonly pid: number
  /** SIGTERM, so that it saves what it has to, and waits for the end. Nothing happens when it is down already. */
  stop(): Promise<void>
  /** Sends a signal. Waits for the end when the signal is SIGKILL or SIGTERM, else (SIGSTOP, SIGCONT) returns at once. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Stops it if it runs and starts it again: same port, folder and arguments. Resolves when it serves commands. */
  restart(): Promise<void>
}

interface Place {
  program: string
  port: number
  dir: string
  args: string[]
  /** The configuration file, before all arguments. */
  file: string[]
}

/**
 * Starts `redis-server`, or `program`, on 127.0.0.1 and resolves when it serves commands. No persistence unless `args` ask for it.
 * The end of the test ends the server; so does the end of the test's process, where `setpriv` exists.
 */
export async function startRedis(
  t: { teardown(end: () => Promise<void>): void },
  options: RedisOptions = {},
): Promise<RedisServer> {
  const dir = options.dir ?? (await mkdtemp(path.join(os.tmpdir(), 'effectonce-redis-')))
  await mkdir(dir, { recursive: true })
  const { args = [], program = 'redis-server' } = options
  const file = options.config === undefined ? [] : [path.join(dir, 'redis.conf')]
  if (options.config !== undefined) await writeFile(file[0]!, options.config)
  const started = await launchSomewhere({ program, args, dir, file }, options.port)
  const { port } = started
  let child = started.child
  t.teardown(async () => {
    await end(child, 'SIGKILL')
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
  })
  const stop = async () => {
    child.kill('SIGCONT')
    await end(child, 'SIGTERM')
  }
  return {
    port,
    dir,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return child.pid!
    },
    stop,
    async kill(signal) {
      if (signal === 'SIGKILL' || signal === 'SIGTERM') await end(child, signal)
      else child.kill(signal)
    },
    async restart() {
      await stop()
      child = await launch({ program, port, dir, args, file })
    },
  }
}

/** A free port may be taken by someone else before the server binds it: then another one is tried. */
async function launchSomewhere(place: Omit<Place, 'port'>, wanted?: number) {
  for (let attempt = 1; ; attempt++) {
    const port = wanted ?? (await freePort())
    try {
      return { port, child: await launch({ ...place, port }) }
    } catch (error) {
      const taken = error instanceof Error && error.message.includes('Address already in use')
      if (!taken || wanted !== undefined || attempt === portAttempts) throw error
    }
  }
}

/** It is ready when its own log says so: a PING could be answered by another server on the same port. */
async function launch({ program, port, dir, args, file: settings }: Place): Promise<ChildProcess> {
  const logFile = path.join(dir, 'redis.log')
  const log = await open(logFile, 'w')
  const own = ['--bind', '127.0.0.1', '--port', String(port), '--dir', dir, '--save', '']
  const command = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL']
  const [file, ...rest] = [...command, program, ...settings, ...own, ...args]
  const child = spawn(file!, rest, { stdio: ['ignore', log.fd, log.fd] })
  let trouble: Error | undefined
  child.once('error', (error) => (trouble = error))
  await log.close()
  const serving = async () => {
    if (trouble) throw trouble
    if (!running(child)) throw new Error(`${program} ended`)
    return ready.test(await readFile(logFile, 'utf8'))
  }
  try {
    await waitFor(serving, startDeadlineMs)
  } catch (error) {
    await end(child, 'SIGKILL')
    throw new Error(`${program} did not start on port ${port}:\n${await readFile(logFile, 'utf8')}`, { cause: error })
  }
  return child
}

const running = (child: ChildProcess) => child.pid !== undefined && child.exitCode === null && child.signalCode === null

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (!running(child)) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await ended
}

/** A TCP port of 127.0.0.1 that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A namespace of this test's own, so that tests can share a server. */
export const randomNamespace = (): string => `t${randomBytes(8).toString('hex')}`

/**
 * Asks again every few milliseconds until the condition is truthy, and returns what it was. Rejects after
 * `deadlineMs` (default 5000), and at once with whatever the condition throws.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, deadlineMs = 5000): Promise<NonNullable<T>> {
  const until = performance.now() + deadlineMs
  for (;;) {
    const value = await condition()
    if (value) return value
    if (performance.now() > until) throw new Error(`not true after ${deadlineMs} ms: ${condition.toString()}`)
    await delay(4)
  }
}

/** A reply as Redis sent it: integers as numbers, bulk strings as UTF-8. */
export type Reply = string | number | null | Reply[]

/** An error reply of Redis; the message is its text, for example `WRONGPASS invalid username-password pair`. */
class RedisReplyError extends Error {}

type Words = readonly (string | number)[]

/** One command on a connection of its own, as `redis-cli -p <port> <args>` does it. Rejects on an error reply. */
export const redisCli = async (port: number, ...args: Words): Promise<Reply> => (await talk(port, [args]))[0]!

/** The same as a user of the server. */
export const redisCliAs = async (
  { username, password }: { username: string; password: string },
  ...[port, ...args]: Parameters<typeof redisCli>
): Promise<Reply> => (await talk(port, [['AUTH', username, password], args]))[1]!

/** Sends commands in one go, and gives their replies. */
function talk(port: number, commands: readonly Words[]): Promise<Reply[]> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(commands.map(encode).join('')))
    let received = Buffer.alloc(0)
    const settle = (act: () => void) => {
      socket.destroy()
      act()
    }
    socket.setTimeout(cliDeadlineMs, () => settle(() => reject(new Error(`no reply within ${cliDeadlineMs} ms`))))
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('connection closed before the reply')))
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      const decoded = decodeAll(received, commands.length)
      if (!decoded) return
      settle(() => (decoded instanceof Error ? reject(decoded) : resolve(decoded)))
    })
  })
}

/** What calls have stored: every key but the one where the service keeps which server this is. */
export async function storedKeys(port: number): Promise<string[]> {
  const keys = (await redisCli(port, 'KEYS', '*')) as string[]
  return keys.filter((key) => !key.endsWith(':witness'))
}

function encode(args: Words): string {
  const bulk = args.map(String).map((text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`)
  return `*${args.length}\r\n${bulk.join('')}`
}

interface Decoded {
  value: Reply | RedisReplyError
  next: number
}

/** Reads one reply at `at`, or nothing when it is not whole yet. An error inside an array stands for the whole. */
function decode(bytes: Buffer, at: number): Decoded | undefined {
  const lineEnd = bytes.indexOf('\r\n', at)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('utf8', at + 1, lineEnd)
  const next = lineEnd + 2
  const kind = String.fromCharCode(bytes[at]!)
  if (kind === '+') return { value: line, next }
  if (kind === '-') return { value: new RedisReplyError(line), next }
  if (kind === ':') return { value: Number(line), next }
  if (line === '-1') return { value: null, next }
  if (kind === '$') return decodeBulk(bytes, next, Number(line))
  return decodeArray(bytes, next, Number(line))
}

function decodeBulk(bytes: Buffer, at: number, length: number): Decoded | undefined {
  const next = at + length + 2
  return bytes.length < next ? undefined : { value: bytes.toString('utf8', at, at + length), next }
}

/** So many replies; the first error among them stands for the whole, and nothing when they are not whole yet. */
function decodeAll(bytes: Buffer, count: number): Reply[] | Error | undefined {
  const replies: Reply[] = []
  for (let next = 0; replies.length < count;) {
    const decoded = decode(bytes, next)
    if (!decoded || decoded.value instanceof Error) return decoded?.value as Error | undefined
    replies.push(decoded.value)
    next = decoded.next
  }
  return replies
}

function decodeArray(bytes: Buffer, at: number, length: number): Decoded | undefined {
  const items: Reply[] = []
  let next = at
  for (let i = 0; i < length; i++) {
    const item = decode(bytes, next)
    if (!item) return undefined
    if (item.value instanceof Error) return item
    items.push(item.value)
    next = item.next
  }
  return { value: items, next }
}
