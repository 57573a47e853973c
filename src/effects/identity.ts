/** Names derived from what a caller sends: which effect it is, what the outside world calls it, which payload it had. */
import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { JsonObject } from '../json.ts'
import { limits } from '../limits.ts'
import { effectIdPattern } from '../names.ts'
import { invalidRequest } from '../problems.ts'

/** `bucket` (0 to `limits.buckets` - 1) is the first byte of the digest in the effect id. */
export type EffectIdentity = { effectId: string; canonical: string; bucket: number }

export type EffectIdParts = { type: string; digest: string; bucket: number }

/**
 * The identity of an effect: `effectId` is `<type>.<64 hex digits>`, the SHA-256 of `canonical`, which is the RFC 8785
 * text of `entity`. A string counts with its quotes; member order and number spelling do not matter; there is no
 * Unicode normalisation. Throws `invalid-request` unless `entity` is a string of 1 to `limits.entityBytesMax` bytes of
 * UTF-8, or an object whose canonical text is no longer than that; `pointer` says where it was sent.
 *
 * `entity` must be as `readJson` or `parseStrict` read it: both refuse what parsing could merge.
 */
export function identify(type: string, entity: string | JsonObject, pointer = '/entity'): EffectIdentity {
  if (entity === '') throw refusal(pointer, 'must not be empty')
  const canonical = canonicalText(entity)
  const bytes = Buffer.byteLength(typeof entity === 'string' ? entity : canonical)
  if (bytes > limits.entityBytesMax) {
    throw refusal(pointer, `must not exceed ${limits.entityBytesMax} bytes (it has ${bytes})`)
  }
  const digest = hash('sha256', canonical)
  return { effectId: `${type}.${digest}`, canonical, bucket: bucketOf(digest) }
}

const bucketOf = (digest: string): number => parseInt(digest.slice(0, 2), 16)

/** The parts of an effect id, or undefined for a text that is none. */
export function parseEffectId(text: string): EffectIdParts | undefined {
  if (!effectIdPattern.test(text)) return undefined
  const dot = text.indexOf('.')
  const digest = text.slice(dot + 1)
  return { type: text.slice(0, dot), digest, bucket: bucketOf(digest) }
}

/**
 * The name of an effect in an outside system, for its own de-duplication: `limits.referenceCharsMax` characters of
 * `[a-z0-9]`, a letter first, the same for every attempt (Binance `newClientOrderId`, OKX `clOrdId`, Bybit
 * `orderLinkId` all take that). It carries 160 bits of SHA-256. A namespace holds no `/`, so no two pairs hash the same
 * text.
 */
export function reference(namespace: string, effectId: string): string {
  const chars = limits.referenceCharsMax - 1
  const digits = BigInt(`0x${hash('sha256', `${namespace}/${effectId}`)}`).toString(36)
  return `e${digits.slice(-chars).padStart(chars, '0')}`
}

/** The fingerprint of a payload (any JSON value): the hex SHA-256 of its RFC 8785 text. */
export const fingerprintOf = (payload: unknown): string => hash('sha256', canonicalText(payload))

/** RFC 8785 text. Throws an `Error` for what no accepted request holds: a lone surrogate, or a value that is not JSON. */
function canonicalText(value: unknown): string {
  const text = canonicalize(value)
  if (text === undefined) throw new Error('Only JSON values have a canonical text.')
  return text
}

const refusal = (pointer: string, message: string) => invalidRequest([{ pointer, message }])
