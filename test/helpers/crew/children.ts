/** Processes that may be killed at any moment, and come back. They end with their parent, whose end closes their stdin. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const startDeadlineMs = 180_000

export type Child = {
  readonly pid: number
  readonly starts: number
  kill: (signal: NodeJS.Signals) => Promise<void>
  /** Ends it if it runs, and starts it again; resolves when it says that it is ready. */
  restart: () => Promise<void>
}

/** A file beside this one, compiled or not. */
const beside = (name: string): string => {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`./${name}.${extension}`, import.meta.url))
}

const running = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null

async function launch(name: string, settings: object): Promise<ChildProcess> {
  const env = { ...process.env, CREW: JSON.stringify(settings) }
  const stdio: ['pipe', 'pipe', 'inherit'] = ['pipe', 'pipe', 'inherit']
  const child = spawn(process.execPath, [...process.execArgv, beside(name)], { env, stdio })
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.once('exit', (code) => reject(new Error(`${name} ended with ${code} at its start`)))
    setTimeout(() => reject(new Error(`${name} did not start`)), startDeadlineMs).unref()
  })
  await ready
  child.stdout.resume()
  return child
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (!running(child)) return
  const ends = signal === 'SIGKILL' || signal === 'SIGTERM'
  const ended = ends ? new Promise((resolve) => child.once('exit', resolve)) : undefined
  child.kill(signal)
  await ended
}

/** Starts `name`; `settings` may be others at each start, which are counted from 1. */
export async function startChild(
  t: { teardown(end: () => Promise<void>): void },
  name: string,
  settings: (start: number) => object,
): Promise<Child> {
  let starts = 1
  let child = await launch(name, settings(starts))
  t.teardown(() => end(child, 'SIGKILL'))
  return {
    get pid() {
      return child.pid!
    },
    get starts() {
      return starts
    },
    kill: (signal) => end(child, signal),
    async restart() {
      await end(child, 'SIGKILL')
      child = await launch(name, settings(++starts))
    },
  }
}

/** The settings that a child was started with; its end comes with its parent's. */
export function settingsOfChild<T>(): T {
  process.stdin.resume().on('end', () => process.exit(0))
  return JSON.parse(process.env['CREW'] ?? '{}') as T
}

export const sayReady = (): void => void process.stdout.write('ready\n')
