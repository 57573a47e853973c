/** The built service (`dist/`, which `npm run build` makes) as a process of its own, on a free port of 127.0.0.1. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { freePort, waitFor } from './redis-server.ts'

/** A loaded machine takes its time to start three processes. */
const startDeadlineMs = 40_000

export interface Service {
  readonly pid: number
  readonly url: string
  readonly port: number
  /** Everything that it has printed so far. */
  output: () => string
  /** The lines of the log, oldest first. */
  log: () => Record<string, unknown>[]
  /** The processes that it started and that still live, those with this in their command line: workers, the private Redis. */
  children: (what?: RegExp) => number[]
  kill: (signal: NodeJS.Signals) => void
  /** Resolves when the process has ended, with its exit code, or the name of the signal. */
  ended: Promise<number | NodeJS.Signals>
}

/** Starts it and does not wait; the end of the test kills it and what it started. */
export async function spawnService(
  t: { teardown(end: () => Promise<void>): void },
  env: Record<string, string>,
): Promise<Service> {
  const port = Number(env['PORT'] ?? (await freePort()))
  const child = spawn(process.execPath, ['--enable-source-maps', 'dist/src/main.js'], {
    // Not the loaders of the tests: this runs as it is built.
    env: { ...process.env, NODE_OPTIONS: '', HOST: '127.0.0.1', PORT: String(port), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const pid = child.pid!
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  t.teardown(async () => {
    const started = childrenOf(pid, /./)
    child.kill('SIGKILL')
    await ended
    await waitFor(() => !started.some(isAlive), startDeadlineMs)
  })
  return {
    ...{ pid, port, url: `http://127.0.0.1:${port}`, ended },
    output: () => output,
    log: () => output.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as object] : [])) as [],
    children: (what = /./) => childrenOf(pid, what),
    kill: (signal) => void child.kill(signal),
  }
}

/** Starts it and waits until it says that it listens. */
export async function startService(...args: Parameters<typeof spawnService>): Promise<Service> {
  const service = await spawnService(...args)
  let ended: number | string | undefined
  void service.ended.then((how) => (ended = how))
  await waitFor(() => {
    if (ended !== undefined) throw new Error(`the service ended with ${ended}:\n${service.output()}`)
    return service.output().includes('Effectonce listens on')
  }, startDeadlineMs)
  return service
}

/** A zombie is not alive, and in a container nobody may ever collect it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !existsSync('/proc/self/stat') || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Of every process: its id, its parent's, its command line. */
function processTable(): { pid: number; parent: number; command: string }[] {
  const text = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' })
  return [...text.matchAll(/^ *(\d+) +(\d+) (.*)$/gm)].map(([, pid, parent, command]) => ({
    ...{ pid: Number(pid), parent: Number(parent), command: command! },
  }))
}

const childrenOf = (pid: number, what: RegExp): number[] =>
  processTable().flatMap((each) =>
    each.parent === pid && what.test(each.command) && isAlive(each.pid) ? [each.pid] : [],
  )
