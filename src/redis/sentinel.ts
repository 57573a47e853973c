/**
 * The client library's way to the primary that Sentinels name, and the connections over which they tell of a failover. It
 * listens to no error of those, and prints each to the console; and it subscribes anew after each reconnect without
 * catching what becomes of that.
 */
import {
  type Redis,
  type RedisOptions,
  type SentinelAddress,
  type SentinelConnectionOptions,
  SentinelConnector,
} from 'ioredis'

type Dial = (sentinel: SentinelAddress, options?: RedisOptions) => Redis

/** Told once for each time that a Sentinel is lost: a dead one is tried twice a second for as long as it is away. */
function tellOnce(connection: Redis, name: string, tell: (error: Error) => void): void {
  let lost = false
  connection.on('ready', () => (lost = false))
  connection.on('error', (error: Error) => {
    if (lost) return
    lost = true
    tell(new Error(`Sentinel ${name} cannot be heard: ${error.message}`))
  })
}

function catchSubscribing(connection: Redis): void {
  const subscribe = connection.subscribe.bind(connection)
  Object.assign(connection, {
    subscribe: (...channels: string[]) => {
      const subscribed = subscribe(...channels)
      subscribed.catch(() => undefined)
      return subscribed
    },
  })
}

export function sentinelConnector(tell: (error: Error) => void) {
  return class extends SentinelConnector {
    constructor(options: unknown) {
      super(options as SentinelConnectionOptions)
      // Private only in its types. A question for the primary comes without options, and the library tells of its errors.
      const own = this as unknown as { connectToSentinel: Dial }
      const dial = own.connectToSentinel.bind(this)
      own.connectToSentinel = (sentinel, further) => {
        const connection = dial(sentinel, further)
        if (further) {
          tellOnce(connection, `${sentinel.host}:${sentinel.port}`, tell)
          catchSubscribing(connection)
        }
        return connection
      }
    }
  }
}
