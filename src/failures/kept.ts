/** The form in which a reported error is kept with an effect and given back. */
import { limits } from '../limits.ts'
import { normaliseError } from './error.ts'

/** `JSON.stringify`, or undefined for a value that is nested too deeply for it. */
function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/**
 * JSON text of an object with `message` (at most `limits.errorMessageCharsMax`) and the members that were sent; over
 * `limits.errorBytesMax` only those that the contract names are kept. Never throws.
 */
export function keptError(error: unknown): string {
  const facts = normaliseError(error)
  const own = typeof error === 'object' && error !== null && !Array.isArray(error) ? error : {}
  const text = textOf({ ...own, message: facts.message })
  if (text !== undefined && Buffer.byteLength(text) <= limits.errorBytesMax) return text
  return JSON.stringify(facts)
}
