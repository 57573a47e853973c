/** What the figures were taken on: without it they say nothing. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { runFolder } from './folders.mjs'

const said = (file, ...args) => execFileSync(file, args, { encoding: 'utf8' }).trim()

/** Name and value, in the order of the table. */
export function describeMachine() {
  const [cpu] = os.cpus()
  const redis = /v=(\S+)/.exec(said('redis-server', '--version'))?.[1]
  const fileSystem = said('df', '--output=fstype', runFolder).split('\n').at(-1)
  const load = os.loadavg().map((value) => value.toFixed(2))
  return {
    processors: `${os.cpus().length} × ${cpu?.model.trim()}; the driver runs on them too`,
    memory: `${(os.totalmem() / 2 ** 30).toFixed(0)} GiB`,
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    'load average before the run': load.join(', '),
    node: process.version,
    redis: `${redis}, a server of its own for each deployment, TCP on 127.0.0.1`,
    'append-only files': `on ${fileSystem}`,
    packages: versions().join(', '),
  }
}

/** Of the peers, as they are installed. */
function versions() {
  const manifest = JSON.parse(readFileSync(path.join(import.meta.dirname, 'package.json'), 'utf8'))
  const names = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.optionalDependencies)]
  return names.flatMap((name) => {
    const file = path.join(import.meta.dirname, 'node_modules', name, 'package.json')
    return existsSync(file) ? [`${name} ${JSON.parse(readFileSync(file, 'utf8')).version}`] : []
  })
}
