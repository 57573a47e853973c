/** Who answers on a connection: asked on that very connection, and forgotten with it. */
import type { Redis } from 'ioredis'
import { parseInfo } from './info.ts'

/** Who answers on a connection. Source: INFO server and INFO replication of Redis 7. */
export type Identity = {
  /** `primary`, or `host:port` in a Cluster. */
  node: string
  /** Another one after each start of the server. */
  runId: string
  /** Of the history of writes; a promoted replica has a new one and keeps its old primary's as the second. */
  replicationId: string
  replicationId2: string
  role: 'primary' | 'replica'
}

/** Asks the server on this connection who it is. */
async function introduce(redis: Redis, node: string): Promise<Identity> {
  const info = parseInfo((await redis.call('INFO', 'server', 'replication')) as string)
  return {
    node,
    runId: info.get('run_id') ?? '',
    replicationId: info.get('master_replid') ?? '',
    replicationId2: info.get('master_replid2') ?? '',
    role: info.get('role') === 'slave' ? 'replica' : 'primary',
  }
}

/** Keeps who answers on a connection for as long as the connection lasts. */
export function identityOn(redis: Redis, node: string) {
  let known: Identity | undefined
  let asked: Promise<Identity> | undefined
  function ask(): Promise<Identity> {
    const mine: Promise<Identity> = introduce(redis, node).then(
      (identity) => {
        if (asked === mine) known = identity
        return identity
      },
      (error: unknown) => {
        if (asked === mine) asked = undefined
        throw error
      },
    )
    return mine
  }
  redis.on('close', () => {
    known = undefined
    asked = undefined
  })
  return {
    /** Undefined until the server has said it on this connection. */
    known: () => known,
    /** Rejects as any command does. */
    ask: (): Promise<Identity> => (asked ??= ask()),
  }
}
