/** Who is calling: an API key becomes a principal; a role allows a call or does not. */
import { hash, timingSafeEqual } from 'node:crypto'
import { Problem } from './problems.ts'

/** Each role may do what the ones before it may. */
export const roles = ['reader', 'worker', 'operator'] as const
export type Role = (typeof roles)[number]

/** Who is calling. `authenticated` is false where no key is configured and everybody is let in. */
export type Principal = { namespace: string; role: Role; name: string; authenticated: boolean }

export type ApiKey = { name: string; sha256: string; role: Role; namespace: string }

const anonymousPrincipal: Principal = {
  ...{ namespace: 'default', role: 'operator', name: 'anonymous', authenticated: false },
}

export const allows = (role: Role, least: Role): boolean => roles.indexOf(role) >= roles.indexOf(least)

/** Whether a `Host` header names this machine itself; any other, where no key is configured, may be DNS rebinding. */
function isLoopbackHost(host: string | undefined): boolean {
  const name = (host ?? '').replace(/:\d+$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name)
}

const unauthenticated = (detail: string): Problem => new Problem('unauthenticated', detail, {})

/**
 * Builds the check of one request. `authorization` and `host` are header values; throws `unauthenticated`, or
 * `forbidden` for a foreign `Host` where everybody would be let in. Comparing keys takes the same time whichever matches.
 */
export function createAuth(keys: readonly ApiKey[], allowAnonymous: boolean) {
  const known = keys.map(({ sha256, ...key }) => ({ ...key, digest: Buffer.from(sha256, 'hex') }))

  /** The principals of headers that were let in, at most one for each key: their digest costs 1.5 µs. */
  const admitted = new Map<string, Principal>()

  function principalOf(authorization: string | undefined): Principal {
    const before = authorization === undefined ? undefined : admitted.get(authorization)
    if (before) return before
    const [, token] = /^Bearer +([^\s]+) *$/i.exec(authorization ?? '') ?? []
    if (token === undefined) throw unauthenticated('The call needs an API key.')
    const presented = hash('sha256', token, 'buffer')
    let found: (typeof known)[number] | undefined
    for (const key of known) if (timingSafeEqual(key.digest, presented)) found = key
    if (!found) throw unauthenticated('The API key is not known.')
    const principal = { namespace: found.namespace, role: found.role, name: found.name, authenticated: true }
    if (admitted.size < known.length) admitted.set(authorization ?? '', principal)
    return principal
  }

  return function authenticate(authorization: string | undefined, host: string | undefined): Principal {
    if (known.length > 0) return principalOf(authorization)
    if (allowAnonymous || isLoopbackHost(host)) return anonymousPrincipal
    throw new Problem('forbidden', 'Without API keys only a loopback Host is answered.')
  }
}

export type Authenticate = ReturnType<typeof createAuth>

/** Throws `forbidden` unless the principal has at least the role. */
export function authorise(principal: Principal, least: Role): void {
  if (!allows(principal.role, least)) throw new Problem('forbidden', `This call needs the role ${least}.`)
}

/** Who did something, for histories and the audit. */
export type Actor = { user: string; on_behalf_of: string | null }

/** The key's name where there are keys, `user` then being whom it was for; else whoever the caller says. */
export const actorOf = (principal: Principal, user: string | undefined): Actor =>
  principal.authenticated
    ? { user: principal.name, on_behalf_of: user ?? null }
    : { user: user ?? principal.name, on_behalf_of: null }
