/** A connection to Redis without the service around it. */
import { randomUUID } from 'node:crypto'
import type { StoreOptions } from '../../src/redis/client.ts'
import { createKeys } from '../../src/redis/keys.ts'

/** Watches the server, tells nobody, and takes a clock that is moved for time that passes. */
export const quietWatch = (): StoreOptions => ({
  witness: {
    process: randomUUID(),
    graceMs: 60_000,
    told: () => undefined,
    keyOf: createKeys('idempotency').witness,
  },
  stepMs: Infinity,
})
