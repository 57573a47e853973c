/**
 * How the query of a request is read. Text that is no percent-encoded UTF-8 is refused: taken as it stands, `%ff` would be one
 * effect with `%25ff`.
 */
import { z } from 'zod'
import { invalidRequest } from '../problems.ts'

type Query = Record<string, string | string[]>

/** The parameters that could not be read. The router, which reads queries, has no way to refuse one. */
const unread = new WeakMap<object, string[]>()

/** As forms are encoded. Node passes other bytes than ASCII on as Latin-1, which would be other text. */
function decode(text: string): string | undefined {
  if (!/^[\x20-\x7e]*$/.test(text)) return undefined
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

function add(query: Query, name: string, value: string): void {
  const known = query[name]
  if (known === undefined) query[name] = value
  else if (Array.isArray(known)) known.push(value)
  else query[name] = [known, value]
}

/** For the router: the values by name, in an array where a name is there more than once. */
export function parseQuery(text: string): Query {
  const query = Object.create(null) as Query
  const names: string[] = []
  for (const pair of text.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const rawName = equals < 0 ? pair : pair.slice(0, equals)
    const [name, value] = [decode(rawName), decode(equals < 0 ? '' : pair.slice(equals + 1))]
    if (name === undefined || value === undefined) names.push(name ?? rawName)
    else add(query, name, value)
  }
  if (names.length > 0) unread.set(query, names)
  return query
}

/** The query that the router has read; throws `invalid-request` that names what could not be. */
export function readQuery(query: unknown): unknown {
  const names = unread.get(query as object)
  if (!names) return query
  throw invalidRequest(names.map((name) => ({ pointer: `?${name}`, message: 'is not percent-encoded UTF-8' })))
}

function fromDigits(value: unknown, context: z.RefinementCtx): unknown {
  if (value === undefined) return undefined
  if (typeof value === 'string' && /^\d+$/.test(value)) return Number(value)
  context.addIssue({ code: 'custom', message: 'must be an integer in decimal digits' })
  return z.NEVER
}

/** A number in a query, of digits only: `Number` also reads 0x10, 1e3, ' 5' and '', and a token with .1 behind it as the token. */
export const inDigits = <T extends z.ZodType>(integer: T) => z.preprocess(fromDigits, integer)
