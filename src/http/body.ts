/** How a body is read: JSON only, within its limit, refused where it could mean two things. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { readJson } from '../json.ts'
import { Problem } from '../problems.ts'
import { takeBody } from './whole-body.ts'

const utf8 = /;\s*charset=("?)utf-?8\1\s*(;|$)/i

function parseBody(request: FastifyRequest, body: Buffer): unknown {
  const contentType = request.headers['content-type'] ?? ''
  if (/;\s*charset=/i.test(contentType) && !utf8.test(contentType)) {
    throw new Problem('unsupported-media-type', 'JSON is read in UTF-8 only.')
  }
  if (body.length === 0) throw new Problem('invalid-json', 'The body is empty.')
  return readJson(body)
}

/** Replaces Fastify's parsers. A request without a content type has no body that can be read. */
export function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', (request, payload, done) => {
    takeBody(payload, request.routeOptions.bodyLimit, (error, body) => {
      if (!body) return done(error)
      try {
        done(null, parseBody(request, body))
      } catch (refusal) {
        done(refusal as Error)
      }
    })
  })
}
