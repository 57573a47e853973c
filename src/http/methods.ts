/** 405 for a path that exists with another method. */
import type { FastifyInstance } from 'fastify'
import { Problem } from '../problems.ts'

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

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
        handler: (_request, reply) => {
          void reply.header('allow', allow)
          throw new Problem('method-not-allowed', `This path serves ${allow}.`, { allow: allow.split(', ') })
        },
      })
    }
  }
}
