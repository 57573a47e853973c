/** What the event stream takes and answers. */
import { z } from 'zod'

export const eventStream = z.string().meta({
  description:
    'Server-sent events (text/event-stream): `id`, `event` (the name), `data` (JSON with `event`, `at` and the facts). ' +
    'A comment line comes every 15 s. `event: gap`: events that were asked for are no longer kept.',
})

/** `<ms>` or `<ms>-<n>`. */
export const eventId = /^(\d{1,15})(?:-(\d{1,15}))?$/

export const eventStreamHeaders = z.object({
  'Last-Event-ID': z.string().regex(eventId).optional().meta({
    description:
      'The `id` of the last event that was read: the stream goes on behind it. Browsers send it by themselves.',
    example: '1795468122456-0',
  }),
})
