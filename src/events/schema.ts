/** What the event stream answers. */
import { z } from 'zod'

export const eventStream = z.string().meta({
  description:
    'Server-sent events (text/event-stream): `id`, `event` (the name), `data` (JSON with `event`, `at` and the facts). ' +
    'A comment line comes every 15 s. `event: gap`: events that were asked for are no longer kept.',
})
