/**
 * What is started for a contender: its servers and a Redis of its own. A deployment is {ports, servers, redis (pids),
 * redisPort, headers or path, stop()}; each is started once a run, when the first contender needs it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { Client, get } from './client.mjs'
import { newFolder } from './folders.mjs'
import { freePort, listens, startProcess, until } from './processes.mjs'
import { persistence, startCluster, startRedis, startReplicatedRedis } from './redis.mjs'

const root = path.dirname(import.meta.dirname)
const peer = (name) => path.join(import.meta.dirname, 'peers', `${name}.mjs`)
const serviceMain = path.join(root, 'dist/src/main.js')
const { start } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')).scripts
/** Node's, as the service is started with them. */
const nodeFlags = start.split(' ').filter((word) => word.startsWith('--'))

/** A peer that needs no store, or one of its own with the given persistence. */
export async function startPeer(name, { redisArgs = null, args = [], path: callPath } = {}) {
  const redis = redisArgs === null ? null : await startRedis(redisArgs)
  const port = await freePort()
  const server = startProcess([process.execPath, peer(name), String(port), redis?.url ?? '', ...args])
  const stop = async () => {
    await server.stop()
    await redis?.stop()
  }
  await orStop(stop, () => until(() => listens(port), server, name))
  const pids = redis === null ? [] : [redis.pid]
  return {
    ports: [port],
    servers: [server.pid],
    redis: pids,
    redisPort: redis?.port,
    headers: '',
    path: callPath,
    stop,
  }
}

/** Lets go of what was started when the rest cannot be. */
async function orStop(stop, start) {
  try {
    return await start()
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * The service as it is deployed: the build, an API key, metrics, validation, and a log at info that is written. Options:
 * `redis`: none | everysec | always | replicated, `durability` of the effect types, `auth: false`, `processes`.
 */
export async function startService({ redis: kind = 'none', ...options } = {}) {
  const redis = kind === 'replicated' ? await startReplicatedRedis() : await startRedis(persistence[kind])
  const service = await orStop(redis.stop, () => startServiceOn({ REDIS_URL: redis.url }, {}, options))
  const stop = async () => {
    await service.stop()
    await redis.stop()
  }
  return { ...service, redis: redis.pids ?? [redis.pid], redisPort: redis.port, redisUrl: redis.url, stop }
}

/** Several replicas of the service on a Cluster. */
export async function startOnCluster(nodes, replicas) {
  const cluster = await startCluster(nodes)
  const config = { redis: { cluster: cluster.ports.map((port) => ({ host: '127.0.0.1', port })) } }
  const started = []
  const stop = async () => {
    await Promise.all(started.map((service) => service.stop()))
    await cluster.stop()
  }
  await orStop(stop, async () => {
    for (let n = 0; n < replicas; n++) started.push(await startServiceOn({}, config, {}))
  })
  return { services: started, redis: cluster.pids, stop }
}

/** One process (or `processes` of them behind one port) on a Redis that runs already. */
export async function startServiceOn(env, config, { durability = 'primary', auth = true, processes = 1 } = {}) {
  const folder = newFolder()
  const key = randomBytes(32).toString('base64url')
  const file = path.join(folder, 'effectonce.yaml')
  writeFileSync(file, JSON.stringify({ ...config, ...serviceConfig(auth ? key : null, durability) }))
  const port = await freePort()
  const place = { HOST: '127.0.0.1', PORT: String(port), CONFIG_FILE: file, DATA_DIR: folder, LOG_LEVEL: 'info' }
  const server = startProcess([process.execPath, ...nodeFlags, serviceMain], {
    env: { ...place, PROCESSES: String(processes), ...env, NODE_ENV: 'production' },
    cwd: folder,
  })
  await orStop(server.stop, () => until(() => isReady(port), server, 'the service'))
  const headers = auth ? `Authorization: Bearer ${key}\r\n` : ''
  return { ports: [port], servers: [server.pid], redis: [], headers, stop: server.stop }
}

/** JSON is YAML. The budget is off: a million effects are more than its default. */
function serviceConfig(key, durability) {
  const digest = key === null ? null : createHash('sha256').update(key).digest('hex')
  return {
    auth: { keys: digest === null ? [] : [{ name: 'bench', sha256: digest, role: 'operator', namespace: 'default' }] },
    effects: { defaults: { durability } },
    retry: { audit_log_path: null, redis: { memory_budget_mb: null } },
  }
}

async function isReady(port) {
  if (!(await listens(port))) return false
  const client = await Client.connect(port)
  try {
    return (await client.ask(get('/readyz'))).status === 200
  } catch {
    return false
  } finally {
    client.close()
  }
}

/** Where the server binary of Restate is; undefined where npm had none for this machine. */
function restateBinary() {
  const require = createRequire(import.meta.url)
  try {
    return require.resolve(`@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`)
  } catch {
    return undefined
  }
}

/** Restate's server with its defaults (its log is fsynced before an answer), and a handler that it calls. */
export async function startRestate() {
  const binary = restateBinary()
  if (binary === undefined || !existsSync(binary))
    throw new Error('npm has no server binary of Restate for this machine')
  const folder = newFolder()
  const [handlerPort, ingress, admin, node] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const env = {
    ...{ RESTATE_BASE_DIR: folder, RESTATE_LISTEN_MODE: 'tcp', RESTATE_DISABLE_TELEMETRY: 'true', DO_NOT_TRACK: '1' },
    ...{ RESTATE_BIND_IP: '127.0.0.1', RESTATE_BIND_PORT: String(node), RESTATE_ADVERTISED_HOST: '127.0.0.1' },
    ...{ RESTATE_INGRESS__BIND_PORT: String(ingress), RESTATE_ADMIN__BIND_PORT: String(admin), RUST_LOG: 'error' },
  }
  const handler = startProcess([process.execPath, peer('restate-handler'), String(handlerPort)])
  const server = startProcess([binary, '--no-logo', '--node-name', 'bench'], { env, cwd: folder })
  const stop = () => Promise.all([server.stop(), handler.stop()])
  await orStop(stop, async () => {
    await until(() => listens(handlerPort), handler, "Restate's handler")
    await until(() => registered(admin, handlerPort), server, 'restate-server')
  })
  return {
    ports: [ingress],
    servers: [server.pid, handler.pid],
    redis: [],
    headers: '',
    path: '/effects/execute',
    stop,
  }
}

async function registered(admin, handlerPort) {
  try {
    const response = await fetch(`http://127.0.0.1:${admin}/deployments`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ uri: `http://127.0.0.1:${handlerPort}` }),
    })
    await response.text()
    return response.ok
  } catch {
    return false
  }
}
