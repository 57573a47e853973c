/** The Dockerfile and docker-compose.yml name only what exists, give nothing away, and use settings the programs take. */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { redisCli, startRedis } from '../helpers/redis-server.ts'

interface Service {
  image?: string
  build?: string
  user?: string
  ports?: string[]
  volumes?: string[]
  networks?: string[]
  command?: string[]
  environment?: Record<string, string>
  depends_on?: string[] | Record<string, unknown>
  read_only?: boolean
  cap_drop?: string[]
  security_opt?: string[]
}

interface Compose {
  services: Record<string, Service>
  networks: Record<string, { internal?: boolean } | null>
  volumes: Record<string, null>
}

const compose = parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true }) as Compose
const services = Object.entries(compose.services)
const dockerfile = readFileSync('Dockerfile', 'utf8').replaceAll('\\\n', ' ').split('\n')
const instructions = (name: string) =>
  dockerfile.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length).trim())
const copiedFromHere = instructions('COPY')
  .filter((line) => !line.startsWith('--from='))
  .flatMap((line) => line.split(/\s+/).slice(0, -1))

t.test('every path that docker-compose.yml mounts exists, every volume and network is declared', async (t) => {
  for (const [name, service] of services) {
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0]!
      const known = source.startsWith('.') ? existsSync(source) : source in compose.volumes
      t.ok(known, `${name}: ${source}`)
    }
    for (const network of service.networks ?? []) t.ok(network === 'default' || network in compose.networks, network)
    const needed = Array.isArray(service.depends_on) ? service.depends_on : Object.keys(service.depends_on ?? {})
    for (const other of needed) t.ok(other in compose.services, `${name} depends on ${other}`)
  }
})

t.test('every container is read-only, without capabilities, and reachable from this machine only', async (t) => {
  t.ok(services.length > 0)
  for (const [name, service] of services) {
    t.equal(service.read_only, true, name)
    t.same(service.cap_drop, ['ALL'], name)
    t.same(service.security_opt, ['no-new-privileges:true'], name)
    for (const port of service.ports ?? []) t.match(port, /^127\.0\.0\.1:\d+:\d+$/, name)
  }
})

t.test('only the service shares a network with Redis, which publishes no port', async (t) => {
  const beside = services.filter(([, service]) => service.networks?.includes('store')).map(([name]) => name)
  t.same(beside.sort(), ['effectonce', 'redis'])
  t.same(compose.services.redis?.networks, ['store'])
  t.equal(compose.services.redis?.ports, undefined)
  t.equal(compose.networks.store?.internal, true)
})

t.test('every image is pinned to a version', async (t) => {
  const composed = services.flatMap(([, service]) => (service.image ? [service.image] : []))
  const bases = instructions('FROM').map((line) => line.split(/\s+/)[0]!)
  for (const image of [...composed, ...bases]) t.match(image, /:v?\d+\.\d+\.\d+/, image)
})

t.test('the base image has a Node that package.json allows', async (t) => {
  const wanted = /^>=(\d+)\.(\d+)$/.exec((JSON.parse(readFileSync('package.json', 'utf8')) as Manifest).engines.node)!
  const setup = /^node_wanted=(\d+)\.(\d+)$/m.exec(readFileSync('scripts/setup.sh', 'utf8'))!
  t.same(setup.slice(1), wanted.slice(1), 'scripts/setup.sh asks for the same')
  for (const base of instructions('FROM')) {
    const [, major, minor] = /^node:(\d+)\.(\d+)/.exec(base)!
    t.equal(major, wanted[1])
    t.ok(Number(minor) >= Number(wanted[2]))
  }
})

interface Manifest {
  engines: { node: string }
}

t.test('everything the Dockerfile copies exists and passes .dockerignore', async (t) => {
  const ignore = readFileSync('.dockerignore', 'utf8').trim().split('\n')
  t.equal(ignore[0], '*')
  t.ok(copiedFromHere.length > 0)
  for (const source of copiedFromHere) {
    t.ok(existsSync(source), source)
    t.ok(ignore.includes(`!${source.replace(/^\.\//, '')}`), source)
  }
})

t.test('the image runs the build as another user than root', async (t) => {
  t.same(instructions('USER'), ['node'])
  const command = JSON.parse(instructions('CMD')[0]!) as string[]
  t.same([command[0], command.at(-1)], ['node', 'dist/src/main.js'])
  t.ok(command.includes('--enable-source-maps'))
  const { start, up } = (JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> })
    .scripts
  const memory = (words: string[]) => words.filter((word) => word.startsWith('--max-'))
  t.equal(memory(command).length, 2)
  for (const script of [start, up]) t.same(memory(script!.split(' ')), memory(command), 'the same bounds of memory')
})

t.test('the health check of the image tells a live service from a sick and an absent one', async (t) => {
  const [file, ...args] = JSON.parse(/CMD (\[.*\])/.exec(instructions('HEALTHCHECK')[0]!)![1]!) as [string, ...string[]]
  let status = 200
  const server = createServer((request, reply) => reply.writeHead(request.url === '/livez' ? status : 404).end())
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const env = { ...process.env, NODE_OPTIONS: '', PORT: String((server.address() as AddressInfo).port) }
  const check = () => promisify(execFile)(file, args, { env })
  await t.resolves(check())
  status = 503
  await t.rejects(check(), { code: 1 })
  server.close()
  await t.rejects(check(), { code: 1 })
})

t.test('Redis takes its configuration file, keeps every acknowledged write and evicts nothing', async (t) => {
  const { command, volumes } = compose.services.redis!
  const inside = command![1]!
  const file = volumes!.map((volume) => volume.split(':')).find((parts) => parts[1] === inside)![0]!
  // The settings themselves, in their order, without the two that say where to listen.
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /^[a-z]/.test(line) && !line.startsWith('bind'))
  const args = lines.flatMap((line) =>
    line.split(' ').map((word, at) => (at === 0 ? `--${word}` : word.replaceAll('"', ''))),
  )
  const redis = await startRedis(t, { args })
  const setting = async (name: string) => ((await redisCli(redis.port, 'CONFIG', 'GET', name)) as string[])[1]
  t.equal(await setting('appendonly'), 'yes')
  t.equal(await setting('appendfsync'), 'always')
  t.equal(await setting('maxmemory-policy'), 'noeviction')
  t.equal(await setting('save'), '')
  t.ok(Number(await setting('maxmemory')) > 2 * 100 * 1024 * 1024, 'well above the default memory_budget_mb')

  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-conf-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  // The file as it is, whole: a server that cannot bind gets past its configuration and ends.
  const whole = spawnSync('redis-server', [path.resolve(file), '--dir', dir, '--port', String(redis.port)], {
    encoding: 'utf8',
  })
  t.match(whole.stdout, 'Configuration loaded')
  t.match(whole.stdout, 'Address already in use')
})

t.test('the service in docker-compose.yml is told to use that Redis', async (t) => {
  t.equal(compose.services.effectonce?.environment?.REDIS_URL, 'redis://redis:6379')
  t.equal(compose.services.effectonce?.build, '.')
})
