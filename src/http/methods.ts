/** 405 for a path that exists with another method. */
import { METHODS } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '../problems.ts'

/** All that Node parses but CONNECT, which names no path. */
const methods = METHODS.filter((method) => method !== 'CONNECT')

/** Those that carry a body here; of any other none is read, whatever Fastify wants of it. */
const withBody = ['POST', 'DELETE']

/** Fastify knows nine of the methods, and refuses QUERY without a content type before it looks at the path. */
export function knowAllMethods(app: FastifyInstance): void {
  for (const method of methods) {
    app.addHttpMethod(method, { hasBody: withBody.includes(method), overrideExisting: true })
  }
}

/** Before the body is read: what is wrong with it does not matter at a path that does not take it. */
const refusal =
  (allow: string) =>
  (_request: FastifyRequest, reply: FastifyReply, done: (problem: Problem) => void): void => {
    void reply.header('allow', allow)
    done(new Problem('method-not-allowed', `This path serves ${allow}.`, { allow: allow.split(', ') }))
  }

/** Watches what is registered from now on; the function that it answers registers the refusals, once all routes stand. */
export function refuseOtherMethods(app: FastifyInstance): (scope: FastifyInstance) => void {
  const served = new Map<string, Set<string>>()
  let done = false
  app.addHook('onRoute', (route) => {
    if (done) return
    const known = served.get(route.url) ?? new Set<string>()
    for (const method of [route.method].flat()) known.add(method)
    served.set(route.url, known)
  })
  return (scope) => {
    done = true
    for (const [url, known] of served) {
      const allow = [...known].sort().join(', ')
      scope.route({
        method: methods.filter((method) => !known.has(method)),
        url,
        schema: { hide: true },
        onRequest: refusal(allow),
        // Fastify wants one; nothing gets so far.
        handler: () => undefined,
      })
    }
  }
}
