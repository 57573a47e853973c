/** A lease that one process of many holds, for work that must be done once. */
import { defineScript } from './scripts.ts'

export const leaseHold = defineScript({
  name: 'lease-hold',
  flags: [],
  keys: ['lease'],
  args: ['holder', 'lease_ms'],
  decode: ([status]): { held: boolean } => ({ held: status === 'held' }),
})
