/** Processes of the run: started on free ports, measured through /proc, ended by their pid. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** The clock of /proc/<pid>/stat ticks 100 times a second on every Linux that Node runs on. */
const microsecondsPerTick = 10_000
const startDeadlineMs = 60_000
const stopDeadlineMs = 8000
const complaintCharsMax = 600

/** Where util-linux lives: it asks the kernel to end the child with the driver, however the driver ends. */
const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => existsSync(file))

const running = (child) => child.exitCode === null && child.signalCode === null

/**
 * Starts a program whose standard output really is written, to /dev/null; what it complains of on standard error is kept
 * for the message of a failure.
 */
export function startProcess(command, { env = {}, cwd } = {}) {
  const [file, ...args] = setpriv === undefined ? command : [setpriv, '--pdeathsig', 'KILL', ...command]
  const sink = openSync('/dev/null', 'w')
  const child = spawn(file, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', sink, 'pipe'] })
  closeSync(sink)
  let complaints = ''
  child.stderr.setEncoding('utf8').on('data', (text) => (complaints = (complaints + text).slice(-complaintCharsMax)))
  child.on('error', (error) => (complaints += error.message))
  return {
    pid: child.pid,
    running: () => running(child),
    complaints: () => complaints.trim(),
    stop: () => stopProcess(child),
  }
}

/** SIGTERM, and SIGKILL for one that does not go. */
async function stopProcess(child) {
  if (!running(child)) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), stopDeadlineMs)
  await ended
  clearTimeout(late)
}

/** Asks until the condition holds; a process that ends meanwhile, or the deadline, rejects with what it complained of. */
export async function until(condition, server, what, deadlineMs = startDeadlineMs) {
  const end = performance.now() + deadlineMs
  for (;;) {
    if (await condition()) return
    const gone = server !== undefined && !server.running()
    if (gone || performance.now() > end) {
      throw new Error(`${what} ${gone ? 'ended' : `not within ${deadlineMs} ms`}: ${server?.complaints() ?? ''}`)
    }
    await delay(10)
  }
}

/** A TCP port of 127.0.0.1 that nobody listens on at this moment. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Does somebody listen there? */
export function listens(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    const settle = (answer) => () => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', settle(true)).once('error', settle(false))
  })
}

/** The fields of /proc/<pid>/stat behind the name, which may hold blanks; undefined when the process is gone. */
function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

/** The processes and all that they have started. */
export function family(pids) {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), Number(statOf(name)?.[1])])
  const found = new Set(pids)
  for (let before = -1; before !== found.size;) {
    before = found.size
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid)
  }
  return [...found]
}

/** User and system time of the processes so far, in microseconds. */
export function cpuMicroseconds(pids) {
  const ticks = pids.map((pid) => {
    const stat = statOf(pid)
    return stat === undefined ? 0 : Number(stat[11]) + Number(stat[12])
  })
  return ticks.reduce((sum, one) => sum + one, 0) * microsecondsPerTick
}

/** Resident memory of the processes, in MiB. */
export function residentMebibytes(pids) {
  const sizes = pids.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0))
  return sizes.reduce((sum, one) => sum + one, 0) / 1024
}
