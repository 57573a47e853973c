/** The private server with real processes: started, killed and started again on one data directory. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import t, { type Test } from 'tap'
import { limits } from '../../src/limits.ts'
import { PrivateServerError, startPrivateServer } from '../../src/redis/private-server.ts'
import { waitFor } from '../helpers/redis-server.ts'

const ownerScript = path.resolve('test/helpers/private-server-owner.ts')
const which = (name: string) => execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()
const redisServer = which('redis-server || command -v valkey-server')
const redisCli = which('redis-cli || command -v valkey-cli')

async function temporaryFolder(t: Test, name = 'data'): Promise<string> {
  const folder = await mkdtemp(path.join(await realpath(os.tmpdir()), 'effectonce-private-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return path.join(folder, name)
}

/** For this test, PATH is a folder that holds nothing but these programs. */
async function onlyPrograms(t: Test, programs: Record<string, string>): Promise<string> {
  const folder = await temporaryFolder(t, 'bin')
  await mkdir(folder)
  for (const [name, target] of Object.entries(programs)) await symlink(target, path.join(folder, name))
  const before = process.env.PATH
  process.env.PATH = folder
  t.teardown(() => (process.env.PATH = before))
  return folder
}

/** Starts a server in this process, which the end of the test stops; `logged` are the messages of its log. */
async function start(t: Test, dataDir: string) {
  const logged: string[] = []
  const write = (_fields: object, message: string) => void logged.push(message)
  const server = await startPrivateServer({ dataDir, log: { info: write, warn: write, error: write } })
  t.teardown(() => server.stop())
  return { ...server, logged }
}

async function refusal(t: Test, dataDir: string): Promise<string> {
  const error: unknown = await start(t, dataDir).catch((error: unknown) => error)
  if (!(error instanceof PrivateServerError)) throw new Error(`not refused: ${String(error)}`)
  return error.message
}

/** Starts a server whose owner is another process, and returns how to kill that. */
async function startOwner(t: Test, dataDir: string) {
  const child = spawn(process.execPath, [...process.execArgv, ownerScript, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  const kill = async () => {
    child.kill('SIGKILL')
    await ended
  }
  t.teardown(kill)
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { pid: child.pid!, socketPath: String(line).trim(), kill }
}

const redis = (socketPath: string, ...command: string[]) =>
  execFileSync(redisCli, ['-s', socketPath, ...command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()

const serverPid = (socketPath: string) => Number(/process_id:(\d+)/.exec(redis(socketPath, 'INFO', 'server'))?.[1])

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // A zombie is not alive, and in a container nobody may ever collect it.
    return !existsSync('/proc/self/stat') || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

t.test('data survives a stop and a start, and the stop leaves no process', async (t) => {
  const dataDir = await temporaryFolder(t, 'a folder with "quotes" and ünïcode')
  const first = await start(t, dataDir)
  t.equal(first.mode, 'started')
  t.equal(first.socketPath, path.join(dataDir, 'redis.sock'))
  redis(first.socketPath, 'SET', 'effect', 'done')
  const pid = serverPid(first.socketPath)
  await Promise.all([first.stop(), first.stop()])
  t.same(await first.exited, { code: 0, signal: null, requested: true })
  t.notOk(isAlive(pid))
  t.same(first.logged, ['private server started'])

  const second = await start(t, dataDir)
  t.equal(second.mode, 'started')
  t.equal(redis(second.socketPath, 'GET', 'effect'), 'done')
})

t.test('its settings keep every acknowledged write and evict nothing; nobody else can reach it', async (t) => {
  const dataDir = await temporaryFolder(t)
  const { socketPath } = await start(t, dataDir)
  const setting = (name: string) => redis(socketPath, 'CONFIG', 'GET', name).split('\n')[1] ?? ''
  t.equal(setting('appendonly'), 'yes')
  t.equal(setting('appendfsync'), 'always')
  t.equal(setting('maxmemory-policy'), 'noeviction')
  t.equal(setting('port'), '0')
  t.equal(setting('save'), '')
  t.equal((await stat(dataDir)).mode & 0o777, 0o700)
  t.equal((await stat(socketPath)).mode & 0o777, 0o700)
})

t.test('a SIGKILL of its owner ends it, and a start at that very moment succeeds with all data', async (t) => {
  const dataDir = await temporaryFolder(t)
  const owner = await startOwner(t, dataDir)
  const pid = serverPid(owner.socketPath)
  redis(owner.socketPath, 'SET', 'effect', 'done')
  const killed = owner.kill()
  const next = await start(t, dataDir).catch(() => killed.then(() => start(t, dataDir)))
  await waitFor(() => !isAlive(pid))
  t.equal(redis(next.socketPath, 'GET', 'effect'), 'done')
})

t.test('a SIGKILL of its owner ends it without a next start', async (t) => {
  const owner = await startOwner(t, await temporaryFolder(t))
  const pid = serverPid(owner.socketPath)
  await owner.kill()
  t.ok(await waitFor(() => !isAlive(pid)))
})

for (const [where, helpers] of [
  ['without setpriv', { flock: which('flock') }],
  ['without setpriv and flock', {}],
] as const) {
  t.test(`${where}, a second start is refused, and the orphan of a killed owner is replaced`, async (t) => {
    const dataDir = await temporaryFolder(t)
    await onlyPrograms(t, { 'redis-server': redisServer, ...helpers })
    const owner = await startOwner(t, dataDir)
    t.match(await refusal(t, dataDir), `already running on the data directory ${dataDir} (process ${owner.pid})`)

    const pid = serverPid(owner.socketPath)
    redis(owner.socketPath, 'SET', 'effect', 'done')
    await owner.kill()
    t.ok(isAlive(pid), 'the orphan lives on')
    const next = await start(t, dataDir)
    t.equal(next.mode, 'replaced')
    await waitFor(() => !isAlive(pid))
    t.equal(redis(next.socketPath, 'GET', 'effect'), 'done')
  })
}

t.test('a second start on the same data directory says so, and works after the first has stopped', async (t) => {
  const dataDir = await temporaryFolder(t)
  const first = await start(t, dataDir)
  const message = await refusal(t, dataDir)
  t.match(message, `already running on the data directory ${dataDir} (process ${process.pid})`)
  t.match(message, 'another DATA_DIR')
  t.equal(redis(first.socketPath, 'PING'), 'PONG', 'the first is not disturbed')
  await first.stop()
  t.equal((await start(t, dataDir)).mode, 'started')
})

t.test('a server whose process dies is reported to its owner', async (t) => {
  const server = await start(t, await temporaryFolder(t))
  process.kill(serverPid(server.socketPath), 'SIGKILL')
  t.same(await server.exited, { code: null, signal: 'SIGKILL', requested: false })
  t.equal(server.logged.at(-1), 'private server ended by itself')
})

t.test('a data directory too long for a socket gets one in a private folder', async (t) => {
  const dataDir = await temporaryFolder(t, 'long-'.repeat(30))
  const { socketPath } = await start(t, dataDir)
  const folder = path.dirname(socketPath)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  t.ok(socketPath.length <= limits.socketPathBytesMax)
  t.equal((await stat(folder)).mode & 0o777, 0o700)
  t.equal(redis(socketPath, 'PING'), 'PONG')
  t.ok((await stat(path.join(dataDir, 'appendonlydir'))).isDirectory(), 'the data is where it was asked for')
})

t.test('the private folder of a long data directory is refused when others can enter it', async (t) => {
  const dataDir = await temporaryFolder(t, 'long-'.repeat(30))
  const first = await start(t, dataDir)
  const folder = path.dirname(first.socketPath)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await first.stop()
  await chmod(folder, 0o755)
  t.match(await refusal(t, dataDir), `${folder} is needed for a socket, but it is not a private folder`)
})

t.test('no server program: the message names what to install and the alternative', async (t) => {
  await onlyPrograms(t, {})
  const message = await refusal(t, await temporaryFolder(t))
  for (const part of ['apt-get install', 'dnf install', 'apk add', 'brew install', 'REDIS_URL=redis://'])
    t.match(message, part)
})

t.test('a server program older than 7.0 is named and refused', async (t) => {
  const bin = await onlyPrograms(t, {})
  await writeFile(path.join(bin, 'redis-server'), '#!/bin/sh\necho "Redis server v=6.2.14 sha=00000000:0 bits=64"\n')
  await chmod(path.join(bin, 'redis-server'), 0o755)
  t.match(await refusal(t, await temporaryFolder(t)), 'redis-server is version 6.2.14')
})

t.test('a server that cannot load its data is reported with the end of its log', async (t) => {
  const dataDir = await temporaryFolder(t)
  await mkdir(path.join(dataDir, 'appendonlydir'), { recursive: true })
  await writeFile(path.join(dataDir, 'appendonlydir', 'appendonly.aof.manifest'), 'not a manifest\n')
  const message = await refusal(t, dataDir)
  t.match(message, 'ended while it started')
  t.match(message, (await readFile(path.join(dataDir, 'redis.log'), 'utf8')).trim().split('\n').at(-1)!)
})

t.test('a data directory that cannot be made is refused', async (t) => {
  const file = await temporaryFolder(t, 'a-file')
  await writeFile(file, '')
  t.match(await refusal(t, path.join(file, 'data')), `${file}/data cannot be used`)
})

t.test('a socket of somebody else is left alone', async (t) => {
  const dataDir = await temporaryFolder(t)
  const other = await start(t, await temporaryFolder(t))
  await mkdir(dataDir)
  await symlink(other.socketPath, path.join(dataDir, 'redis.sock'))
  t.match(await refusal(t, dataDir), 'left alone')
  t.equal(redis(other.socketPath, 'PING'), 'PONG')
})
