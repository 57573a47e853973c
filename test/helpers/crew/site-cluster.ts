/** Three primaries and their replicas, each behind a proxy that services and replicas go through. */
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, waitFor } from '../redis-server.ts'
import { type ClusterNode, slotOf, startCluster } from '../redis-cluster.ts'
import { startProxy } from '../tcp-proxy.ts'
import { everyServer, type Fault, insist, networkFaults, noCredentials, type Site, type Teardown } from './site.ts'
import type { Random } from './random.ts'

const nodesCount = 6
const isService = (from: string) => from === '127.0.0.1' || from === '::ffff:127.0.0.1'
/** Of a bucket that the namespace `default` uses. */
const someSlot = (random: Random) => slotOf(`{default:${Math.floor(random.between(0, 256))}}`)

async function startNodes(t: Teardown) {
  const ports = await Promise.all(Array.from({ length: nodesCount }, freePort))
  const proxies = await Promise.all(ports.map((port) => startProxy(t, port)))
  const behind = (index: number) => ['--cluster-announce-port', String(proxies[index]!.port)]
  const args = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--cluster-require-full-coverage', 'no']
  const argsOf = ({ index }: { index: number }) => [
    ...['--cluster-announce-ip', '127.0.0.1', '--bind-source-addr', `127.0.0.${10 + index}`],
    ...behind(index),
  ]
  const made = await startCluster(t, { ports, args, argsOf })
  /** Those that serve slots now. */
  const primariesNow = async (): Promise<ClusterNode[]> => {
    const roles = await Promise.all(made.nodes.map(async ({ cli }) => String(await cli('ROLE').catch(() => ''))))
    return made.nodes.filter((_, index) => roles[index]!.startsWith('master'))
  }
  return { ...made, proxies, proxyOf: ({ port }: ClusterNode) => proxies[ports.indexOf(port)]!, primariesNow }
}

type Nodes = Awaited<ReturnType<typeof startNodes>>

/** Does something to a primary until another has taken over, and ends it. */
const losing =
  (
    { ownerOf, whole }: Nodes,
    lose: (node: ClusterNode) => Promise<void>,
    mend: (node: ClusterNode) => Promise<void>,
  ): Fault =>
  async (random) => {
    const slot = someSlot(random)
    const old = await insist(() => ownerOf(slot))
    await lose(old)
    await waitFor(async () => (await ownerOf(slot).catch(() => old)) !== old, 60_000)
    await delay(500)
    await mend(old)
    await insist(whole)
  }

const failover =
  ({ nodes, primariesNow, promote, whole }: Nodes): Fault =>
  async (random) => {
    const primaries = await primariesNow()
    await promote(random.pick(nodes.filter((node) => !primaries.includes(node))))
    await insist(whole)
  }

const migration =
  ({ primariesNow, ownerOf, moveSlot, whole }: Nodes): Fault =>
  async (random) => {
    const to = random.pick(await primariesNow())
    for (let moved = 0; moved < 8; moved++) {
      const slot = someSlot(random)
      if ((await insist(() => ownerOf(slot))) !== to) await insist(() => moveSlot(slot, to))
    }
    await insist(whole)
  }

/** Nothing reaches the replicas for a while. */
const replicaLag =
  ({ primariesNow, proxyOf, whole }: Nodes): Fault =>
  async (random) => {
    const proxy = proxyOf(random.pick(await primariesNow()))
    proxy.applies = (from) => !isService(from)
    proxy.set('replies', { hold: true })
    await delay(random.between(100, 800))
    proxy.heal()
    await insist(whole)
  }

export async function cluster(t: Teardown): Promise<Site> {
  const nodes = await startNodes(t)
  const { proxies } = nodes
  const killed = losing(
    nodes,
    (node) => node.kill('SIGKILL'),
    (node) => node.restart(),
  )
  const hung = losing(
    nodes,
    (node) => node.kill('SIGSTOP'),
    (node) => node.kill('SIGCONT'),
  )
  return {
    address: { cluster: proxies.map(({ port }) => ({ host: '127.0.0.1', port })), ...noCredentials },
    ...{ stepped: false, durability: { replicated: 1 }, lossy: true },
    faults: {
      ...networkFaults(proxies, isService),
      ...{ primary_kill: killed, primary_hang: hung, failover: failover(nodes) },
      ...{ slot_migration: migration(nodes), replica_lag: replicaLag(nodes) },
      script_flush: everyServer(nodes.nodes, 'SCRIPT', 'FLUSH'),
    },
  }
}
