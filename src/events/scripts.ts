/** The scripts of the event stream. */
import { defineScript } from '../redis/scripts.ts'

/** One entry of the stream: `at` in Redis milliseconds, `data` a JSON object. */
export type StreamEvent = { id: string; event: string; at: number; data: string }

/** `fields` are names and values in turn, as Redis keeps them. */
export function decodeStreamEvent([id, fields]: [string, string[]]): StreamEvent {
  const value = (name: string): string => fields[fields.indexOf(name) + 1] ?? ''
  return { id, event: value('event'), at: Number(value('at')), data: value('data') }
}

export const eventAdd = defineScript({
  name: 'event-add',
  flags: ['allow-oom'],
  keys: ['events', 'sender'],
  args: ['entries', 'sender_ms'],
  decode: () => undefined,
})

/** The events after one, `gap` if some between are gone. `lastId` is the newest there ever was, `0-0` if none. */
export type EventPage = { gap: boolean; nowMs: number; lastId: string; entries: StreamEvent[] }

export const eventPage = defineScript({
  name: 'event-page',
  flags: ['no-writes'],
  keys: ['events'],
  args: ['after', 'count'],
  decode: ([status, nowUs, lastId, entries]): EventPage => ({
    gap: status === 'gap',
    nowMs: nowUs / 1000,
    lastId: lastId as string,
    entries: (entries as [string, string[]][]).map(decodeStreamEvent),
  }),
})
