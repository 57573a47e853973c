/**
 * Which server takes a write: the one server, the primary that Sentinel names, or in a Cluster the owner of the key's slot.
 * A Cluster's table of slots is kept here and not by the client library, whose redirections and retries are hidden from
 * the caller: a command can take longer than its deadline.
 */
import slotOf from 'cluster-key-slot'
import { limits } from '../limits.ts'
import { connect, type ServerAddress, type StoreAddress } from './connection.ts'
import { openServer, type ServerOptions, type StoreServer } from './server.ts'
import type { WitnessSettings } from './witness.ts'

export type Servers = {
  /** Whether keys of different hash tags may lie on different servers. */
  clustered: boolean
  /** The server of a key; undefined while a Cluster's table does not say. */
  of: (key: string) => StoreServer | undefined
  /** All that take writes. */
  all: () => StoreServer[]
  /** The first slot of a server of a Cluster; undefined while its table does not say. */
  firstSlot: (node: string) => number | undefined
  /** A slot lives elsewhere: `MOVED <slot> <host>:<port>`, or `ASK …` for this one call. Answers that server. */
  redirected: (message: string, from: StoreServer) => StoreServer | undefined
  /** The table may be out of date. */
  doubt: () => void
  close: () => void
}

type Open = (place?: ServerAddress) => StoreServer
type ClusterAddress = Extract<StoreAddress, { cluster: unknown }>

function oneServer(open: Open): Servers {
  const server = open()
  const nothing = () => undefined
  const close = () => server.close()
  const where = { of: () => server, all: () => [server], firstSlot: nothing }
  return { clustered: false, ...where, redirected: nothing, doubt: nothing, close }
}

const nameOf = ({ host, port }: ServerAddress): string => `${host}:${port}`

export function placeOf(name: string): ServerAddress {
  const colon = name.lastIndexOf(':')
  return { host: name.slice(0, colon), port: Number(name.slice(colon + 1)) }
}

/** One range of CLUSTER SLOTS: first slot, last slot, the primary, its replicas. */
type SlotRange = [first: number, last: number, ...servers: [host: string | null, port: number][]]

/**
 * Asks one server for the table, on a connection of its own that ends with the answer. `cutOff`: it says itself that it is out
 * of touch with the Cluster, so its table may be of long ago. Where it may not be asked for that it is taken at its word.
 */
async function askForSlots(address: StoreAddress, place: ServerAddress) {
  const once = { lazyConnect: true, retryStrategy: () => null, reconnectOnError: () => false }
  const redis = connect(address, 'effectonce-slots', once, place)
  redis.on('error', () => undefined)
  try {
    await redis.connect()
    const state = redis.call('CLUSTER', 'INFO').catch(() => '')
    const ranges = (await redis.call('CLUSTER', 'SLOTS')) as SlotRange[]
    return { ranges, cutOff: String(await state).includes('cluster_state:fail') }
  } finally {
    redis.disconnect()
  }
}

function createTable(open: Open, startup: readonly ServerAddress[]) {
  /** Everybody who may know the table, replicas too. */
  const known = new Map<string, ServerAddress>(startup.map((place) => [nameOf(place), place]))
  const servers = new Map<string, StoreServer>()
  const slots: (string | undefined)[] = []
  /** As the last table said, and no single MOVED: what is known of a server is kept in its first slot. */
  const firstSlots = new Map<string, number>()
  /** Who was last known to have each slot, even while nobody has it. */
  const holders: (StoreServer | undefined)[] = []

  function serverAt(name: string): StoreServer {
    const server = servers.get(name) ?? open(placeOf(name))
    servers.set(name, server)
    return server
  }

  /** Whoever gets a slot may be the replica of the one who had it, and goes on from what was known of that one. */
  function inherit(owner: string | undefined, slot: number): void {
    if (owner === undefined) return
    const [server, before] = [serverAt(owner), holders[slot]]
    holders[slot] = server
    if (before === undefined || before === server) return
    server.witness.follow(before.witness)
    server.clock.follow(before.clock)
  }

  /** A server without a host in the table is the one that was asked. */
  function take(ranges: readonly SlotRange[], asked: ServerAddress): void {
    slots.length = 0
    firstSlots.clear()
    for (const [first, last, ...places] of ranges) {
      const names = places.map(([host, port]) => nameOf({ host: host || asked.host, port }))
      for (const name of names) known.set(name, placeOf(name))
      const [owner] = names
      if (owner === undefined) continue
      firstSlots.set(owner, Math.min(first, firstSlots.get(owner) ?? first))
      for (let slot = first; slot <= last; slot++) slots[slot] = owner
    }
    slots.forEach(inherit)
    for (const [name, server] of servers) {
      if (firstSlots.has(name)) continue
      servers.delete(name)
      server.close()
    }
  }

  return { known, servers, slots, firstSlots, serverAt, take }
}

/**
 * Asks one after the other who knows the table, those that own slots first, another one first each time. A primary that is cut
 * off still names itself: taken in turn with the others', its table closed the connection to its heir again and again.
 */
function createRefresh(address: ClusterAddress, table: ReturnType<typeof createTable>) {
  let turn = 0
  let running: Promise<void> | undefined

  async function refresh(): Promise<void> {
    const owners = [...table.servers.values()].filter(({ redis }) => redis.status === 'ready').map(({ node }) => node)
    const first = owners.map((_, index) => owners[(index + turn) % owners.length] as string)
    turn += 1
    let lastResort: [ranges: SlotRange[], asked: ServerAddress] | undefined
    for (const name of new Set([...first, ...table.known.keys()])) {
      try {
        const { ranges, cutOff } = await askForSlots(address, placeOf(name))
        if (!cutOff) return table.take(ranges, placeOf(name))
        lastResort ??= [ranges, placeOf(name)]
      } catch {
        // The next one may know.
      }
    }
    if (lastResort) table.take(...lastResort)
  }
  return (): Promise<void> => (running ??= refresh().finally(() => (running = undefined)))
}

function cluster(address: ClusterAddress, open: Open): Servers {
  const table = createTable(open, address.cluster)
  const refresh = createRefresh(address, table)
  let closed = false
  let timer: NodeJS.Timeout | undefined

  /** Soon at first, and for as long as nobody tells; then as often as servers may come and go. */
  function round(): void {
    void refresh().then(() => {
      if (closed) close()
      else timer = setTimeout(round, table.slots.length === 0 ? limits.storeRetryPauseMs : limits.clusterRefreshMs)
    })
  }
  function close(): void {
    closed = true
    clearTimeout(timer)
    for (const server of table.servers.values()) server.close()
  }
  round()
  return {
    clustered: true,
    of(key) {
      const owner = table.slots[slotOf(key)]
      return owner === undefined ? undefined : table.serverAt(owner)
    },
    all: () => [...table.servers.values()],
    firstSlot: (node) => table.firstSlots.get(node),
    redirected(message, from) {
      const [kind, slot, to] = message.split(' ')
      if (slot === undefined || to === undefined || closed) return undefined
      const { host, port } = placeOf(to)
      const name = nameOf({ host: host || placeOf(from.node).host, port })
      if (kind === 'MOVED') table.slots[Number(slot)] = name
      void refresh()
      return table.serverAt(name)
    },
    doubt: () => void refresh(),
    close,
  }
}

export type ServersOptions = Omit<ServerOptions, 'witness'> & {
  witness: WitnessSettings & { keyOf: (slot: number | undefined) => string }
}

/** Connects to whatever `address` names. */
export function openServers(address: StoreAddress, options: ServersOptions): Servers {
  const { keyOf, ...settings } = options.witness
  const serversNow = (): Servers => servers
  const open: Open = (place) => {
    const key = () => {
      if (!place) return keyOf(undefined)
      const slot = serversNow().firstSlot(nameOf(place))
      return slot === undefined ? undefined : keyOf(slot)
    }
    const others = () =>
      serversNow()
        .all()
        .filter(({ node }) => place && node !== nameOf(place))
        .flatMap(({ witness }) => witness.known()?.record.runId ?? [])
    return openServer(address, { ...options, witness: { ...settings, key, others } }, place)
  }
  const servers = 'cluster' in address ? cluster(address, open) : oneServer(open)
  return servers
}
