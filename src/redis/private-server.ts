/**
 * The private server: a Redis or Valkey of our own, used when no `REDIS_URL` is given. It listens on a unix socket only,
 * keeps every acknowledged write on disk (`appendfsync always`) and lives exactly as long as the service.
 *
 * Two locks in the data directory make that sound, even after a SIGKILL. Both are flock(2) locks, which the kernel drops
 * with the last process that holds them, so they are never stale:
 * - `owner.lock` is held by the service: a second service on the same directory is refused;
 * - `server.lock` is inherited by the server: no second server ever touches the same files.
 * flock(1) takes the lock on a descriptor that we opened, and the lock stays with that descriptor when flock(1) ends.
 * Where flock(1) is absent (macOS) the process id in `owner.lock` and the server's socket decide instead.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  writeSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { limits } from '../limits.ts'

/** The private server cannot be had or used; `message` is one paragraph for the person who started the service. */
export class PrivateServerError extends Error {
  override name = 'PrivateServerError'
}

/** What this module needs of a logger (pino's shape). */
export interface PrivateServerLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** How the server's process ended; `requested` is false when nobody called `stop`. */
export interface PrivateServerExit {
  code: number | null
  signal: NodeJS.Signals | null
  requested: boolean
}

export interface PrivateServer {
  socketPath: string
  /** `replaced`: a server left behind by a killed service was shut down first. Its data is what this one serves. */
  mode: 'started' | 'replaced'
  /** Settles when the process ends, whatever the cause. Never rejects. */
  exited: Promise<PrivateServerExit>
  /** Ends the server (SIGTERM, after 10 s SIGKILL) and gives the data directory free. Repeatable, never rejects. */
  stop(): Promise<void>
}

interface ServerProgram {
  name: string
  version: string
  /** `setpriv --pdeathsig TERM` in front, where it exists: the kernel then ends the server when we are SIGKILLed. */
  command: readonly [string, ...string[]]
}

const programNames = ['redis-server', 'valkey-server']
const versionMajorMin = 7

/**
 * Starts a server on `dataDir` (created with mode 0700 when absent) and resolves when it answers. A server that a killed
 * service left behind is shut down and started anew, not adopted: only our own child is sure to end with us.
 *
 * @throws PrivateServerError no server program of version 7.0 or later, another service runs on this directory, the
 * directory cannot be used, or the server did not answer within 60 s
 */
export async function startPrivateServer(options: { dataDir: string; log: PrivateServerLog }): Promise<PrivateServer> {
  const program = findProgram()
  const dir = makeDataDir(options.dataDir)
  const ownerLock = lockOwner(dir)
  try {
    const socketPath = chooseSocketPath(dir)
    const mode = (await shutDownOrphan(dir, socketPath)) ? 'replaced' : 'started'
    const server = await launch(program, dir, socketPath)
    const fields = { server: program.name, version: program.version, socket_path: socketPath, data_dir: dir }
    if (mode === 'replaced') options.log.warn(fields, 'private server of a killed run shut down and started anew')
    else options.log.info(fields, 'private server started')
    return supervise(server, { ownerLock, socketPath, mode, log: options.log })
  } catch (error) {
    unlockOwner(ownerLock)
    throw error
  }
}

function findProgram(): ServerProgram {
  const found = programNames.map(probeProgram).filter((program) => program !== null)
  const usable = found.find((program) => Number.parseInt(program.version, 10) >= versionMajorMin)
  if (usable) return usable
  const old = found[0] ? ` (${found[0].name} is version ${found[0].version})` : ''
  throw new PrivateServerError(
    `No Redis or Valkey server of version ${versionMajorMin}.0 or later was found on PATH${old}. Install one: ` +
      '`sudo apt-get install redis-server` (Debian, Ubuntu), `sudo dnf install valkey` (Fedora), `sudo apk add valkey` ' +
      '(Alpine) or `brew install redis` (macOS). Or use a server that runs already by setting REDIS_URL, for example ' +
      'REDIS_URL=redis://127.0.0.1:6379.',
  )
}

function probeProgram(name: string): ServerProgram | null {
  for (const command of [['setpriv', '--pdeathsig', 'TERM', name] as const, [name] as const]) {
    const [file, ...args] = command
    const { status, stdout } = spawnSync(file, [...args, '--version'], { encoding: 'utf8' })
    const version = status === 0 ? /\bv=(\d+\.\d+\.\d+)/.exec(stdout)?.[1] : undefined
    if (version) return { name, version, command }
  }
  return null
}

function makeDataDir(dataDir: string): string {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    return realpathSync(dataDir)
  } catch (error) {
    throw new PrivateServerError(`The data directory ${resolve(dataDir)} cannot be used: ${(error as Error).message}.`)
  }
}

/** Takes `owner.lock` and writes our process id into it, for the message that refuses the next one. */
function lockOwner(dir: string): number {
  const path = join(dir, 'owner.lock')
  const fd = openLock(path)
  const owner = Number.parseInt(readFileSync(path, 'utf8'), 10)
  const lock = tryLock(fd)
  if (lock === 'held' || (lock === 'unsupported' && owner !== process.pid && isAlive(owner))) {
    closeSync(fd)
    throw new PrivateServerError(
      `Effectonce is already running on the data directory ${dir} (process ${owner || 'unknown'}). Use that one, stop it ` +
        'first (Ctrl-C in its terminal), or start this one with another DATA_DIR and PORT.',
    )
  }
  ftruncateSync(fd)
  writeSync(fd, `${process.pid}\n`)
  return fd
}

function unlockOwner(fd: number): void {
  ftruncateSync(fd)
  closeSync(fd)
}

function openLock(path: string): number {
  try {
    return openSync(path, 'a', 0o600)
  } catch (error) {
    throw new PrivateServerError(`The lock file cannot be opened: ${(error as Error).message}.`)
  }
}

function tryLock(fd: number): 'taken' | 'held' | 'unsupported' {
  const { error, status, stderr } = spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] })
  if (error) return 'unsupported'
  if (status === 0) return 'taken'
  if (status === 1) return 'held'
  throw new PrivateServerError(`The data directory cannot be locked: ${String(stderr).trim()}.`)
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** `<dataDir>/redis.sock`, or, where that is too long for a socket, a private folder under the temporary directory. */
function chooseSocketPath(dir: string): string {
  const inDataDir = join(dir, 'redis.sock')
  if (Buffer.byteLength(inDataDir) <= limits.socketPathBytesMax) return inDataDir
  const folder = join(tmpdir(), `effectonce-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { mode, uid } = lstatSync(folder)
  // Anyone may create folders in /tmp: ours must be a real folder that nobody else can enter.
  if ((mode & 0o170077) !== 0o040000 || uid !== process.getuid?.())
    throw new PrivateServerError(`${folder} is needed for a socket, but it is not a private folder of this user.`)
  return join(folder, 'redis.sock')
}

/** Shuts down the server that still answers on our socket. Only the lock's holder gets here, so nobody uses it. */
async function shutDownOrphan(dir: string, socketPath: string): Promise<boolean> {
  let reply: string | null = ''
  // Empty: hung, or just about to end because the kernel told it that its service died. The second needs a moment.
  await until(limits.privateServerStopMs, async () => (reply = await ask(socketPath, 'CONFIG GET dir')) !== '')
  if (reply === null) return false
  if (!reply.startsWith(`*2\r\n$3\r\ndir\r\n$${Buffer.byteLength(dir)}\r\n${dir}\r\n`))
    throw new PrivateServerError(
      `A server that does not answer as the one of ${dir} listens on ${socketPath}${pidHint(dir)}. It is left alone; end ` +
        'it, or start with another DATA_DIR.',
    )
  await ask(socketPath, 'SHUTDOWN NOSAVE NOW FORCE')
  await until(limits.privateServerStopMs, async () => (await ask(socketPath, 'PING')) === null)
  return true
}

function pidHint(dir: string): string {
  try {
    return ` (its process is probably ${readFileSync(join(dir, 'redis.pid'), 'utf8').trim()})`
  } catch {
    return ''
  }
}

/** One inline command. Null: nobody listens; empty: no answer in time; else the raw reply, and QUIT's behind it. */
function ask(socketPath: string, command: string): Promise<string | null> {
  return new Promise((settle) => {
    let reply: string | null = null
    const socket = connect(socketPath)
    socket.setEncoding('utf8').setTimeout(limits.privateServerReplyMs, () => socket.destroy())
    socket.on('connect', () => (reply = ''))
    socket.on('data', (chunk: string) => (reply += chunk))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => settle(reply))
    socket.write(`${command}\r\nQUIT\r\n`)
  })
}

async function until(deadlineMs: number, isTrue: () => boolean | Promise<boolean>): Promise<boolean> {
  const end = performance.now() + deadlineMs
  for (;;) {
    if (await isTrue()) return true
    if (performance.now() >= end) return false
    await delay(limits.privateServerPollMs)
  }
}

async function launch(program: ServerProgram, dir: string, socketPath: string): Promise<ChildProcess> {
  const serverLock = await lockServer(dir)
  const logPath = join(dir, 'redis.log')
  const logFd = openSync(logPath, 'a', 0o600)
  const logStart = readFileSync(logPath).length
  const [file, ...wrapper] = program.command
  // Detached: Ctrl-C in the terminal must not reach the server before the service has drained.
  const stdio = ['ignore', logFd, logFd, serverLock] as const
  const child = spawn(file, [...wrapper, ...serverArguments(dir, socketPath)], { detached: true, stdio: [...stdio] })
  child.on('error', () => undefined)
  closeSync(logFd)
  closeSync(serverLock)
  const ready = () => ask(socketPath, 'PING').then((reply) => reply?.startsWith('+PONG') ?? false)
  await until(limits.privateServerStartMs, async () => hasEnded(child) || (await ready()))
  if (!hasEnded(child) && (await ready())) return child
  child.kill('SIGKILL')
  const tail = readFileSync(logPath).subarray(logStart).toString().trim().split('\n').slice(-8).join('\n')
  const what = hasEnded(child)
    ? 'ended while it started'
    : `did not answer within ${limits.privateServerStartMs / 1000} s`
  throw new PrivateServerError(`The private ${program.name} ${what}. The end of its log, ${logPath}:\n${tail}`)
}

async function lockServer(dir: string): Promise<number> {
  const fd = openLock(join(dir, 'server.lock'))
  if (await until(limits.privateServerStopMs, () => tryLock(fd) !== 'held')) return fd
  closeSync(fd)
  throw new PrivateServerError(
    `A server that an earlier run left on ${dir} is still alive and does not end${pidHint(dir)}. End it and start again.`,
  )
}

function serverArguments(dir: string, socketPath: string): string[] {
  const settings = {
    port: '0',
    unixsocket: socketPath,
    unixsocketperm: '700',
    dir,
    pidfile: join(dir, 'redis.pid'),
    appendonly: 'yes',
    appendfsync: 'always',
    // The append-only file holds everything; snapshots would only write it a second time.
    save: '',
    'maxmemory-policy': 'noeviction',
  }
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null
}

function supervise(
  child: ChildProcess,
  context: { ownerLock: number; socketPath: string; mode: PrivateServer['mode']; log: PrivateServerLog },
): PrivateServer {
  let stopped: Promise<void> | undefined
  const endWithUs = () => child.kill('SIGTERM')
  process.once('exit', endWithUs)
  const exited = new Promise<PrivateServerExit>((settle) => {
    const ended = () => {
      process.off('exit', endWithUs)
      const exit = { code: child.exitCode, signal: child.signalCode, requested: stopped !== undefined }
      if (!exit.requested) context.log.error(exit, 'private server ended by itself')
      settle(exit)
    }
    if (hasEnded(child)) ended()
    else child.once('exit', ended)
  })
  const end = async () => {
    child.kill('SIGTERM')
    if (!(await until(limits.privateServerStopMs, () => hasEnded(child)))) child.kill('SIGKILL')
    await exited
    unlockOwner(context.ownerLock)
  }
  const stop = () => (stopped ??= end())
  return { socketPath: context.socketPath, mode: context.mode, exited, stop }
}
