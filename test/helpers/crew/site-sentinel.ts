/** A primary, two replicas and three Sentinels, each server behind a proxy that everybody goes through. */
import { freePort, type RedisServer } from '../redis-server.ts'
import { startSentinel } from '../redis-sentinel.ts'
import { startProxy, type TcpProxy } from '../tcp-proxy.ts'
import { setTimeout as delay } from 'node:timers/promises'
import {
  clockStep,
  everyServer,
  type Fault,
  insist,
  networkFaults,
  noCredentials,
  type Site,
  type Teardown,
} from './site.ts'

const serversCount = 3
/** By the address it comes from a proxy knows a server's connection from a service's. */
const addressOfServer = (index: number) => `127.0.0.${10 + index}`
const isService = (from: string) => from === '127.0.0.1' || from === '::ffff:127.0.0.1'

async function startServers(t: Teardown) {
  const ports = await Promise.all(Array.from({ length: serversCount }, freePort))
  const proxies = await Promise.all(ports.map((port) => startProxy(t, port)))
  const announced = (port: number) => proxies[ports.indexOf(port)]?.port ?? port
  const sentinel = await startSentinel(t, {
    ...{ ports, announced, replicas: serversCount - 1 },
    args: ['--appendonly', 'yes', '--appendfsync', 'everysec'],
    argsOf: ({ index }) => ['--bind-source-addr', addressOfServer(index)],
    sentinelConfig: () => 'bind-source-addr 127.0.0.20\nsentinel announce-ip 127.0.0.1',
  })
  const proxyOf = ({ port }: RedisServer): TcpProxy => proxies[ports.indexOf(port)]!
  return { sentinel, proxies, proxyOf }
}

export async function sentinel(t: Teardown): Promise<Site> {
  const { sentinel, proxies, proxyOf } = await startServers(t)
  const { servers, primary, changedFrom, whole } = sentinel
  const healed = () => insist(whole)

  /** Does something to the primary until another has taken over, and ends it. */
  const losing =
    (lose: (server: RedisServer) => unknown, mend: (server: RedisServer) => unknown): Fault =>
    async () => {
      const old = await insist(primary)
      await lose(old)
      await insist(() => changedFrom(old))
      await delay(500)
      await mend(old)
      await healed()
    }
  const isolate = (server: RedisServer) => {
    const proxy = proxyOf(server)
    proxy.applies = (from) => !isService(from)
    proxy.cut()
  }
  const replicaLag: Fault = async (random) => {
    const proxy = proxyOf(await insist(primary))
    proxy.applies = (from) => !isService(from)
    proxy.set('replies', { hold: true })
    await delay(random.between(100, 400))
    proxy.heal()
    await healed()
  }
  // All replicas: while an old primary is alive beside the new one, a replica that follows the old one still confirms, and
  // what it confirms is lost. Found with 1 of 2: an acknowledged complete was gone after an ordered failover.
  return {
    address: { ...sentinel.place, ...noCredentials },
    ...{ stepped: true, durability: { replicated: serversCount - 1 }, lossy: true },
    faults: {
      ...networkFaults(proxies, isService),
      primary_kill: losing(
        (server) => server.kill('SIGKILL'),
        (server) => server.restart(),
      ),
      primary_hang: losing(
        (server) => server.kill('SIGSTOP'),
        (server) => server.kill('SIGCONT'),
      ),
      partition: losing(isolate, (server) => proxyOf(server).heal()),
      async failover() {
        await insist(sentinel.failover)
        await healed()
      },
      replica_lag: replicaLag,
      script_flush: everyServer(servers, 'SCRIPT', 'FLUSH'),
      clock_step: clockStep(async () => (await primary()).port),
    },
  }
}
