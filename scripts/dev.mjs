/**
 * Watch mode: compiles on every change and, when that succeeded, starts the service anew. Lua scripts are read at start,
 * so a change of one starts it anew too. Ctrl-C ends both.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, watch } from 'node:fs'

const compiled = /Found 0 errors\. Watching/
/** Editors write a file in several steps. */
const settleMs = 100

let service = null
let ending = false
let turn = Promise.resolve()
let timer

const running = (child) => child !== null && child.exitCode === null && child.signalCode === null

async function stop(child, signal) {
  if (!running(child)) return
  const ended = once(child, 'exit')
  if (signal) child.kill(signal)
  await ended
}

/** One restart at a time: the next service needs the address and the data directory of the last. */
function restart() {
  turn = turn.then(async () => {
    await stop(service, 'SIGTERM')
    if (!ending) service = spawn(process.execPath, ['--enable-source-maps', 'dist/src/main.js'], { stdio: 'inherit' })
  })
}

/** `signal` is null after Ctrl-C: the terminal has already told every process of this group. */
async function end(signal) {
  if (ending) return
  ending = true
  clearTimeout(timer)
  lua.close()
  await Promise.all([stop(compiler, signal), turn.then(() => stop(service, signal))])
}

rmSync('dist', { recursive: true, force: true })
const compiler = spawn(
  process.execPath,
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--watch', '--preserveWatchOutput'],
  { stdio: ['ignore', 'pipe', 'inherit'] },
)
compiler.stdout.on('data', (text) => {
  process.stdout.write(text)
  if (compiled.test(text)) restart()
})
compiler.once('exit', () => end('SIGTERM'))

const lua = watch('lua', { recursive: true }, () => {
  clearTimeout(timer)
  timer = setTimeout(restart, settleMs)
})

process.on('SIGINT', () => end(null))
process.on('SIGTERM', () => end('SIGTERM'))
