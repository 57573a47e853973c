/** A write whose arrival elsewhere tells that everything before it has arrived. */
import { defineScript } from './scripts.ts'

export const durableMark = defineScript({
  name: 'durable-mark',
  flags: ['allow-oom'],
  keys: ['mark'],
  args: ['mark_ms'],
  decode: () => undefined,
})
