/** Redis servers of the run, and just enough of the protocol to ask them something. */
import net from 'node:net'
import { newFolder } from './folders.mjs'
import { freePort, listens, startProcess, until } from './processes.mjs'

const slots = 16_384
const clusterDeadlineMs = 30_000

/** Arguments of redis-server for each durability that the page names. No rewrite of the file falls into a window. */
const appendOnly = ['--appendonly', 'yes', '--auto-aof-rewrite-percentage', '0']
export const persistence = {
  none: ['--appendonly', 'no'],
  everysec: [...appendOnly, '--appendfsync', 'everysec'],
  always: [...appendOnly, '--appendfsync', 'always'],
}

/** A redis-server of its own folder and port on 127.0.0.1; `args` are further arguments. */
export async function startRedis(args = persistence.none) {
  const port = await freePort()
  const own = [
    '--bind',
    '127.0.0.1',
    '--port',
    String(port),
    '--dir',
    newFolder(),
    '--save',
    '',
    '--loglevel',
    'warning',
  ]
  const server = startProcess(['redis-server', ...own, ...args])
  try {
    await until(() => listens(port), server, 'redis-server')
  } catch (error) {
    await server.stop()
    throw error
  }
  return { port, url: `redis://127.0.0.1:${port}`, pid: server.pid, stop: server.stop }
}

/** A primary and a replica that has caught up. */
export async function startReplicatedRedis() {
  const primary = await startRedis(persistence.none)
  const replica = await startRedis([...persistence.none, '--replicaof', '127.0.0.1', String(primary.port)])
  const online = async () => (await redis(primary.port, ['INFO', 'replication'])).includes('state=online')
  await until(online, undefined, 'the replica')
  const stop = async () => {
    await replica.stop()
    await primary.stop()
  }
  return { ...primary, pids: [primary.pid, replica.pid], stop }
}

/** A Cluster of primaries only, each with its share of the slots. */
export async function startCluster(size) {
  const nodes = []
  for (let n = 0; n < size; n++) nodes.push(await startClusterNode())
  const stop = async () => void (await Promise.all(nodes.map((node) => node.stop())))
  try {
    await Promise.all(nodes.map((node, n) => redis(node.port, ['CLUSTER', 'ADDSLOTSRANGE', ...share(n, size)])))
    const [first, ...others] = nodes
    const meet = ({ port }) => redis(port, ['CLUSTER', 'MEET', '127.0.0.1', first.port, first.busPort])
    for (const node of others) await meet(node)
    await until(() => agree(nodes), undefined, 'the Cluster', clusterDeadlineMs)
  } catch (error) {
    await stop()
    throw error
  }
  return { ports: nodes.map(({ port }) => port), pids: nodes.map(({ pid }) => pid), stop }
}

const share = (n, size) => [Math.floor((n * slots) / size), Math.floor(((n + 1) * slots) / size) - 1]

async function startClusterNode() {
  const busPort = await freePort()
  const node = await startRedis([...persistence.none, '--cluster-enabled', 'yes', '--cluster-port', String(busPort)])
  return { ...node, busPort }
}

async function agree(nodes) {
  const infos = await Promise.all(nodes.map(({ port }) => redis(port, ['CLUSTER', 'INFO'])))
  return infos.every((info) => info.includes('cluster_state:ok') && info.includes(`known_nodes:${nodes.length}`))
}

/** One command on a connection of its own. */
export const redis = async (port, command) => (await redisPipeline(port, [command]))[0]

/** Commands in one write, their replies in order. Rejects on the first error reply. */
export function redisPipeline(port, commands) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(commands.map(encode).join('')))
    let received = ''
    const settle = (act) => {
      socket.destroy()
      act()
    }
    socket.setTimeout(30_000, () => settle(() => reject(new Error('no reply of Redis within 30 s'))))
    socket.once('error', reject)
    socket.setEncoding('latin1').on('data', (text) => {
      received += text
      const replies = decodeAll(received, commands.length)
      if (replies === null) return
      const wrong = replies.find((reply) => reply instanceof Error)
      settle(() => (wrong === undefined ? resolve(replies) : reject(wrong)))
    })
  })
}

function encode(command) {
  const parts = command.map((part) => `$${Buffer.byteLength(String(part))}\r\n${part}\r\n`)
  return `*${command.length}\r\n${parts.join('')}`
}

function decodeAll(text, count) {
  const replies = []
  for (let at = 0; replies.length < count;) {
    const reply = decode(text, at)
    if (reply === null) return null
    replies.push(reply.value)
    at = reply.next
  }
  return replies
}

/** Simple strings, errors, integers and bulk strings; no command of the run answers a list. */
function decode(text, at) {
  const lineEnd = text.indexOf('\r\n', at)
  if (lineEnd < 0) return null
  const line = text.slice(at + 1, lineEnd)
  const next = lineEnd + 2
  if (text[at] === '-') return { value: new Error(line), next }
  if (text[at] === ':') return { value: Number(line), next }
  if (text[at] === '+' || line === '-1') return { value: line === '-1' ? null : line, next }
  const end = next + Number(line)
  return text.length < end + 2 ? null : { value: text.slice(next, end), next: end + 2 }
}

/** A number of INFO, for example `used_memory`. */
export async function redisNumber(port, section, name) {
  const info = await redis(port, ['INFO', section])
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1])
}
