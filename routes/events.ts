/** What happens in a namespace, as it happens. */
import type { EventFeed } from '../src/events/feed.ts'
import { eventId, eventStream, eventStreamHeaders } from '../src/events/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import { invalidRequest } from '../src/problems.ts'
import * as examples from './examples/events.ts'

/** An id of the stream, `<ms>-<n>`; without the second part its first one. */
function lastEventId(header: string | string[] | undefined): string | undefined {
  if (header === undefined || header === '') return undefined
  const [, ms, number = '0'] = eventId.exec(String(header)) ?? []
  if (ms === undefined) throw invalidRequest([{ pointer: 'Last-Event-ID', message: 'is not an id of this stream' }])
  return `${ms}-${number}`
}

export function eventRoutes(declare: Declare, feed: EventFeed): void {
  declare(
    {
      id: 'streamEvents',
      method: 'GET',
      url: '/api/v1/events',
      role: 'reader',
      tag: 'events',
      summary: 'Events of the namespace, as they happen',
      description:
        'Server-sent events, from now on, or from behind the `Last-Event-ID` of the request, which reaches back 10,000 ' +
        'events; where older ones are asked for, `event: gap` comes first. Ends when the service drains: connect again.',
      headersShown: eventStreamHeaders,
      answers: {
        200: {
          description: 'The stream.',
          schema: eventStream,
          example: examples.stream,
          mediaType: 'text/event-stream',
        },
      },
    },
    ({ principal, request, reply }) => {
      const after = lastEventId(request.headers['last-event-id'])
      // An idle stream is not an idle connection: heartbeats and `limits.eventReaderStuckMs` watch over it.
      request.raw.socket?.setTimeout?.(0)
      void reply.type('text/event-stream').header('cache-control', 'no-store').header('x-accel-buffering', 'no')
      return { status: 200, body: feed.open(principal.namespace, after) }
    },
  )
}
