/**
 * What a Redis set-up can lose: workers claim and complete, the server is killed or its replica promoted, and counted is what
 * was acknowledged and is gone.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'
import { createLog } from '../../src/observability/log.ts'
import { createServices } from '../../src/services.ts'
import { noCredentials, type Teardown } from './crew/site.ts'
import { redisCli, type RedisServer, startRedis, waitFor } from './redis-server.ts'
import { startProxy, type TcpProxy } from './tcp-proxy.ts'

export interface SetUp {
  name: string
  durability: 'primary' | 'fsynced' | { replicated: number }
  args: string[]
  /** Default 0: then the server is killed and started again. Else the first is promoted, whose link was silent. */
  replicas?: number
}

export interface Loss {
  claims: number
  completes: number
  claimsGone: number
  completesGone: number
}

const off = ['--appendonly', 'no']
const everysec = ['--appendonly', 'yes', '--appendfsync', 'everysec']
const always = ['--appendonly', 'yes', '--appendfsync', 'always']

const killed = 'killed, started again'
const promoted = 'promoted'

export const setUps: readonly SetUp[] = [
  { name: `no persistence, ${killed}`, durability: 'primary', args: off },
  { name: `\`appendfsync everysec\`, ${killed}`, durability: 'primary', args: everysec },
  { name: `\`appendfsync always\`, ${killed}`, durability: 'primary', args: always },
  { name: `\`appendfsync always\`, ${killed}`, durability: 'fsynced', args: always },
  { name: `one replica, ${promoted}`, durability: 'primary', args: off, replicas: 1 },
  { name: `one replica, ${promoted}`, durability: { replicated: 1 }, args: off, replicas: 1 },
  { name: `one replica, \`appendfsync always\`, ${promoted}`, durability: 'fsynced', args: always, replicas: 1 },
  { name: `two replicas, one of them ${promoted}`, durability: { replicated: 1 }, args: off, replicas: 2 },
  { name: `two replicas, one of them ${promoted}`, durability: { replicated: 2 }, args: off, replicas: 2 },
]

export const durabilityName = ({ durability }: SetUp): string =>
  typeof durability === 'string' ? durability : `replicated: ${durability.replicated}`

const workers = 16
const workMs = 1000
/** For so long the link to the replica that is promoted carries nothing, as when a network fails before a server does. */
const silentMs = 500

type Call = (method: 'GET' | 'POST', path: string, body?: object) => Promise<{ status: number; body: unknown }>

const callOf =
  (app: FastifyInstance): Call =>
  async (method, path, body) => {
    const response = await app.inject({ method, url: `/api/v1/effects${path}`, ...(body ? { payload: body } : {}) })
    return { status: response.statusCode, body: response.json() }
  }

async function serve({ port }: RedisServer, durability: SetUp['durability']) {
  const settings = {
    redis: { failover_grace_seconds: 0 },
    effects: { defaults: { durability } },
    retry: { audit_log_path: null, redis: { memory_budget_mb: null } },
  }
  const config = parseConfig(JSON.stringify(settings), { LOG_LEVEL: 'silent' }, null)
  const address = { url: `redis://127.0.0.1:${port}`, ...noCredentials }
  const services = createServices({ config, address, log: createLog('silent') })
  const app = await buildApp(services)
  await waitFor(() => services.store.connected(), 20_000)
  const close = async () => {
    await app.close()
    await services.stop()
  }
  return { call: callOf(app), close }
}

/** Claims and completes one effect after the other until it is ended; what was acknowledged stays in the two sets. */
function createWork(call: Call) {
  const [claims, completes] = [new Set<string>(), new Set<string>()]
  let ended = false
  async function worker(): Promise<void> {
    while (!ended) {
      const effect = { type: 'order_placement', entity: randomUUID() }
      const claim = await call('POST', '/claim', { ...effect, owner: 'loss', claim_id: randomUUID() })
      if (claim.status !== 201) continue
      const { effect_id, fencing_token } = claim.body as { effect_id: string; fencing_token: number }
      claims.add(effect_id)
      const done = await call('POST', '/complete', { effect_id, fencing_token, result: effect.entity })
      if (done.status === 200) completes.add(effect_id)
    }
  }
  const all = Promise.all(Array.from({ length: workers }, worker))
  const end = () => {
    ended = true
    return all
  }
  return { claims, completes, end }
}

async function count(call: Call, { claims, completes }: ReturnType<typeof createWork>): Promise<Loss> {
  const loss = { claims: claims.size, completes: completes.size, claimsGone: 0, completesGone: 0 }
  const left = [...claims]
  async function look(): Promise<void> {
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      const { status, body } = await waitFor(async () => {
        const answer = await call('GET', `/${id}`)
        return answer.status === 503 ? undefined : answer
      }, 20_000)
      if (status === 404) loss.claimsGone += 1
      if (completes.has(id) && (body as { state?: string }).state !== 'completed') loss.completesGone += 1
    }
  }
  await Promise.all(Array.from({ length: workers }, look))
  return loss
}

/** Each replica follows through a link of its own. */
async function startReplicas(t: Teardown, primary: RedisServer, { replicas = 0, args }: SetUp) {
  const start = async () => {
    const link = await startProxy(t, primary.port)
    const server = await startRedis(t, { args: [...args, '--replicaof', '127.0.0.1', String(link.port)] })
    return { server, link }
  }
  const all = await Promise.all(Array.from({ length: replicas }, start))
  await waitFor(async () => {
    const told = String(await redisCli(primary.port, 'INFO', 'replication'))
    return [...told.matchAll(/state=online/g)].length === replicas
  }, 20_000)
  return all
}

/** What happens to the server under load, and who answers afterwards. */
function faultOf(primary: RedisServer, replica?: { server: RedisServer; link: TcpProxy }) {
  if (!replica) {
    const back = async () => {
      await primary.restart()
      return primary
    }
    return { begin: () => primary.kill('SIGKILL'), back }
  }
  const { server, link } = replica
  return {
    async begin() {
      link.blackHole()
      await delay(silentMs)
      await primary.kill('SIGKILL')
      link.cut()
    },
    async back() {
      await redisCli(server.port, 'REPLICAOF', 'NO', 'ONE')
      return server
    },
  }
}

/** One round on servers of its own. */
export async function lose(t: Teardown, setUp: SetUp): Promise<Loss> {
  const primary = await startRedis(t, { args: [...setUp.args, '--repl-diskless-sync-delay', '0'] })
  const [first] = await startReplicas(t, primary, setUp)
  const before = await serve(primary, setUp.durability)
  const work = createWork(before.call)
  await delay(workMs)
  const fault = faultOf(primary, first)
  await fault.begin()
  await work.end()
  await before.close()
  const after = await serve(await fault.back(), 'primary')
  const loss = await count(after.call, work)
  await after.close()
  return loss
}
