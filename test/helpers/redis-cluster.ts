/** A real Cluster for one test: primaries and their replicas, each its own process, ended with the test. */
import slotOf from 'cluster-key-slot'
import { freePort, redisCli, type RedisServer, startRedis, waitFor } from './redis-server.ts'

const slots = 16_384
const formDeadlineMs = 20_000

export interface ClusterOptions {
  /** Default 3. */
  primaries?: number
  /** Of each primary. Default 1. */
  replicas?: number
  /** After which a silent node is taken for dead, and a primary that sees no majority refuses. Default 1000. */
  nodeTimeoutMs?: number
  /** Further arguments of every node. */
  args?: string[]
  /** Further arguments of one node: primaries first, then replicas. */
  argsOf?: (node: { index: number; port: number }) => string[]
  /** The port of each node, where somebody else must know it before. */
  ports?: readonly number[]
  /** By which ports everybody else reaches a node: those of proxies. Default: its own. */
  announced?: (node: { index: number } & NodePorts) => Promise<NodePorts>
}

/** Where a node listens: for commands, and for the other nodes. */
export interface NodePorts {
  port: number
  busPort: number
}

export interface ClusterNode extends RedisServer {
  readonly id: string
  readonly announced: NodePorts
  cli(...args: (string | number)[]): ReturnType<typeof redisCli>
}

export interface RedisCluster {
  /** Primaries first, then replicas: as they were at the start. */
  readonly nodes: readonly ClusterNode[]
  readonly primaries: readonly ClusterNode[]
  readonly replicas: readonly ClusterNode[]
  /** Where a service finds it. */
  readonly place: { cluster: { host: string; port: number }[] }
  /** Who owns a slot now, as a majority that can be asked says. */
  ownerOf(slot: number): Promise<ClusterNode>
  /** The replica that was given to a primary at the start. */
  replicaOf(primary: ClusterNode): ClusterNode
  /** A manual failover, which loses nothing; `TAKEOVER` asks nobody. Resolves when the replica is the primary. */
  promote(replica: ClusterNode, how?: 'FAILOVER' | 'FORCE' | 'TAKEOVER'): Promise<void>
  /** Opens a slot for its way; keys move with `moveKeys`. */
  beginMove(slot: number, to: ClusterNode): Promise<void>
  /** Moves up to `count` keys of an opened slot, all by default, and tells how many. */
  moveKeys(slot: number, to: ClusterNode, count?: number): Promise<number>
  /** Closes the slot at its new owner. */
  endMove(slot: number, to: ClusterNode): Promise<void>
  /** All of it. */
  moveSlot(slot: number, to: ClusterNode): Promise<void>
  /** Waits until every node that runs serves all slots, and they agree on who owns which. */
  whole(deadlineMs?: number): Promise<void>
}

type Teardown = { teardown(end: () => Promise<void>): void }

async function startNode(t: Teardown, options: ClusterOptions, index: number): Promise<ClusterNode> {
  const port = options.ports?.[index] ?? (await freePort())
  const busPort = await freePort()
  const announced = (await options.announced?.({ index, port, busPort })) ?? { port, busPort }
  const own = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort)]
  const toOthers = ['--cluster-announce-port', String(announced.port)]
  const bus = ['--cluster-announce-bus-port', String(announced.busPort)]
  const timing = ['--cluster-node-timeout', String(options.nodeTimeoutMs ?? 1000)]
  // A replica always stands for election, and a primary sends its data at once.
  const eager = ['--cluster-replica-validity-factor', '0', '--repl-diskless-sync-delay', '0']
  const further = [...(options.args ?? []), ...(options.argsOf?.({ index, port }) ?? [])]
  const server = await startRedis(t, { port, args: [...own, ...toOthers, ...bus, ...timing, ...eager, ...further] })
  const id = String(await redisCli(port, 'CLUSTER', 'MYID'))
  // The server's members are getters: they must stay so.
  return Object.defineProperties(
    {},
    {
      ...Object.getOwnPropertyDescriptors(server),
      ...Object.getOwnPropertyDescriptors({
        ...{ id, announced },
        cli: (...args: (string | number)[]) => redisCli(port, ...args),
      }),
    },
  ) as ClusterNode
}

const info = async (node: ClusterNode): Promise<string> => String(await node.cli('CLUSTER', 'INFO'))

/** Makes one Cluster of nodes that do not know each other. */
async function form(nodes: readonly ClusterNode[], primaries: readonly ClusterNode[]): Promise<void> {
  const [first] = nodes as [ClusterNode]
  await Promise.all(
    primaries.map(async ({ cli }, index) => {
      const from = Math.floor((index * slots) / primaries.length)
      const to = Math.floor(((index + 1) * slots) / primaries.length) - 1
      await cli('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
      await cli('CLUSTER', 'ADDSLOTSRANGE', from, to)
    }),
  )
  for (const { announced } of nodes.slice(1)) {
    await first.cli('CLUSTER', 'MEET', '127.0.0.1', announced.port, announced.busPort)
  }
  const met = async () =>
    (await Promise.all(nodes.map(info))).every((text) => text.includes(`known_nodes:${nodes.length}\r`))
  await waitFor(met, formDeadlineMs)
  const following = nodes.slice(primaries.length).map(({ cli }, index) => {
    const primary = primaries[index % primaries.length]!
    return waitFor(() => cli('CLUSTER', 'REPLICATE', primary.id).catch(() => false), formDeadlineMs)
  })
  await Promise.all(following)
}

async function serving(node: ClusterNode): Promise<boolean> {
  if (!(await info(node)).includes('cluster_state:ok')) return false
  const replication = String(await node.cli('INFO', 'replication'))
  return !replication.includes('role:slave') || replication.includes('master_link_status:up')
}

type SlotRange = [from: number, to: number, primary: [host: string, port: number, id: string]]
const rangesOf = async ({ cli }: ClusterNode) => (await cli('CLUSTER', 'SLOTS')) as unknown as SlotRange[]

/** Who owns which slots, as this node sees it. */
const viewOf = async (node: ClusterNode): Promise<string> =>
  (await rangesOf(node))
    .map(([from, to, [, , id]]) => `${from}-${to} ${id}`)
    .sort()
    .join()

/** Nodes that are down or hung are passed over. */
const answers = async (node: ClusterNode): Promise<boolean> => {
  try {
    process.kill(node.pid, 0)
    await node.cli('PING')
    return true
  } catch {
    return false
  }
}

/** Asks each node that answers, and believes what most of them say. */
async function ownerOf(nodes: readonly ClusterNode[], slot: number): Promise<ClusterNode> {
  const votes = new Map<string, number>()
  for (const node of nodes) {
    if (!(await answers(node))) continue
    const owner = (await rangesOf(node)).find(([from, to]) => from <= slot && slot <= to)?.[2][2]
    if (owner !== undefined) votes.set(owner, (votes.get(owner) ?? 0) + 1)
  }
  const [id] = [...votes].sort(([, one], [, other]) => other - one)[0] ?? []
  const owner = nodes.find((node) => node.id === id)
  if (!owner) throw new Error(`nobody owns slot ${slot}`)
  return owner
}

function moves(nodes: readonly ClusterNode[]) {
  const setSlot = ({ cli }: ClusterNode, slot: number, ...what: string[]) => cli('CLUSTER', 'SETSLOT', slot, ...what)
  async function beginMove(slot: number, to: ClusterNode): Promise<void> {
    const from = await ownerOf(nodes, slot)
    await setSlot(to, slot, 'IMPORTING', from.id)
    await setSlot(from, slot, 'MIGRATING', to.id)
  }
  async function moveKeys(slot: number, to: ClusterNode, count = Infinity): Promise<number> {
    const from = await ownerOf(nodes, slot)
    let moved = 0
    while (moved < count) {
      const keys = (await from.cli('CLUSTER', 'GETKEYSINSLOT', slot, Math.min(count - moved, 100))) as string[]
      if (keys.length === 0) break
      await from.cli('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys)
      moved += keys.length
    }
    return moved
  }
  /** The new owner first: should it end in between, no slot is without one. */
  async function endMove(slot: number, to: ClusterNode): Promise<void> {
    const from = await ownerOf(nodes, slot)
    await setSlot(to, slot, 'NODE', to.id)
    await setSlot(from, slot, 'NODE', to.id)
    await waitFor(async () => (await ownerOf(nodes, slot)) === to)
  }
  async function moveSlot(slot: number, to: ClusterNode): Promise<void> {
    await beginMove(slot, to)
    await moveKeys(slot, to)
    await endMove(slot, to)
  }
  return { beginMove, moveKeys, endMove, moveSlot }
}

async function promote({ cli }: ClusterNode, how: 'FAILOVER' | 'FORCE' | 'TAKEOVER' = 'FAILOVER'): Promise<void> {
  await cli('CLUSTER', 'FAILOVER', ...(how === 'FAILOVER' ? [] : [how]))
  await waitFor(async () => String(await cli('ROLE')).startsWith('master'), formDeadlineMs)
}

/** Starts a Cluster and resolves when all of it serves: about 2.5 s, most of it the Cluster's own first pause. */
export async function startCluster(t: Teardown, options: ClusterOptions = {}): Promise<RedisCluster> {
  const { primaries: count = 3, replicas = 1 } = options
  const starts = Array.from({ length: count * (1 + replicas) }, (_, index) => startNode(t, options, index))
  const nodes = await Promise.all(starts)
  const primaries = nodes.slice(0, count)
  await form(nodes, primaries)
  const whole = async (deadlineMs = formDeadlineMs) => {
    const serve = async () => {
      const answering = await Promise.all(nodes.map(answers))
      const up = nodes.filter((_, index) => answering[index])
      const [states, views] = await Promise.all([Promise.all(up.map(serving)), Promise.all(up.map(viewOf))])
      return states.every(Boolean) && new Set(views).size === 1
    }
    await waitFor(serve, deadlineMs)
  }
  await whole()
  return {
    ...{ nodes, primaries, replicas: nodes.slice(count), whole, promote, ...moves(nodes) },
    place: { cluster: nodes.map(({ announced }) => ({ host: '127.0.0.1', port: announced.port })) },
    ownerOf: (slot) => ownerOf(nodes, slot),
    replicaOf: (primary) => nodes[count + primaries.indexOf(primary)]!,
  }
}

/** The slot of a key, as the Cluster computes it. */
export { slotOf }
