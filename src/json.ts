/**
 * JSON at the edge: what a request may hold, and results that pass through byte for byte.
 *
 * `JSON.parse` decides what JSON is. One pass over the text it accepted then finds what parsing hides: duplicate
 * members, lone surrogates and inexact numbers, each of which could silently merge two effects into one, and deep
 * nesting, which would overflow the stack of whoever walks the value. Nothing here recurses, whatever the nesting.
 */
import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import canonicalize from 'canonicalize'
import { limits } from './limits.ts'
import { invalidRequest, Problem } from './problems.ts'

export type JsonObject = Record<string, unknown>

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Begins the place of every `RawJson` in serialised text. 128 random bits that never leave the process: no caller can forge it. */
const marker = randomBytes(16).toString('hex')
const place = `"${marker}`

/** The texts of the `RawJson` that `stringifyWithRaw` has met; a place holds the index. Copying them through a string twice cost 2 µs. */
let met: string[] = []

/** The text of one JSON value, kept as it was sent. Only `stringifyWithRaw` serialises it; never log one. */
export class RawJson {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  toJSON(): string {
    return `${marker}${met.push(this.text) - 1}`
  }
}

/**
 * Serialises with `stringify` (`JSON.stringify`, or what fast-json-stringify built with the schema `{}` for such
 * members); every `RawJson` in `value` appears as its own text.
 */
export function stringifyWithRaw(value: unknown, stringify: (value: unknown) => string): string {
  const text = stringify(value)
  if (met.length === 0) return text
  const texts = met
  met = []
  let spliced = ''
  let done = 0
  for (let found = text.indexOf(place); found >= 0; found = text.indexOf(place, done)) {
    const index = found + place.length
    const end = text.indexOf('"', index)
    spliced += text.slice(done, found) + (texts[Number(text.slice(index, end))] as string)
    done = end + 1
  }
  return spliced + text.slice(done)
}

/**
 * The value of a request body. Throws `invalid-json` unless it is JSON in UTF-8 without a byte order mark, and
 * `invalid-request` or `number-not-exact` for what the text of an object may not hold (see `parseStrict`).
 *
 * What reports an outcome is hard to refuse: the members `result`, `evidence` and `error` of the body need only be
 * JSON, and the first two become `RawJson`. Each object in an array `operations` is read like a body of its own: one
 * that breaks a rule is replaced by its `Problem`, so that it does not spoil the others.
 */
export function readJson(body: Buffer): unknown {
  if (!isUtf8(body)) throw new Problem('invalid-json', 'The body is not valid UTF-8.')
  const text = body.toString()
  const value = parse(text)
  if (isJsonObject(value)) scanBody(text, skipSpace(text, 0), value, true)
  return value
}

/**
 * The value of a JSON text that names or compares an effect. Throws `invalid-json`, and with a pointer
 * `invalid-request` for nesting over `depthMax` levels, duplicate members (compared after unescaping) and lone
 * surrogates, and `number-not-exact` (see `isExactNumber`).
 */
export function parseStrict(text: string, depthMax: number = limits.jsonDepthMax): unknown {
  const value = parse(text)
  scan(text, skipSpace(text, 0), depthMax)
  return value
}

/**
 * Whether two JSON texts are the same bytes or the same value: equal RFC 8785 texts, where both are free of what would
 * make that doubtful (see `parseStrict`). Any depth; a value too deep to be canonicalised equals only its own bytes.
 */
export function sameJsonValue(a: string, b: string): boolean {
  if (a === b) return true
  try {
    return canonicalize(parseStrict(a, Infinity)) === canonicalize(parseStrict(b, Infinity))
  } catch (error) {
    if (error instanceof Problem || error instanceof RangeError) return false
    throw error
  }
}

/**
 * Whether the nearest double to a JSON number, printed shortest, has the value written: 0.1, 50000.0, 1e3 and -0 are
 * exact; 9007199254740993, 1e400 and 1e-400 are not.
 */
export function isExactNumber(text: string): boolean {
  // Any 15 digits survive the way through a double, which cannot overflow or vanish without an exponent.
  if (text.length <= 15 && !/[eE]/.test(text)) return true
  const nearest = Number(text)
  const shortest = String(nearest)
  return shortest === text || (Number.isFinite(nearest) && decimal(text) === decimal(shortest))
}

/** The magnitude of a JSON number as `<digits>e<exponent>`, the same for all spellings: `0.<digits> * 10^exponent`. */
function decimal(text: string): string {
  const [mantissa = '', power = '0'] = text.split(/e\+?/i)
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.')
  const digits = whole + fraction
  let first = 0
  let end = digits.length
  while (digits[first] === '0') first++
  while (end > first && digits[end - 1] === '0') end--
  return first === end ? '0' : `${digits.slice(first, end)}e${Number(power) + whole.length - first}`
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    if (text.startsWith('\ufeff')) throw new Problem('invalid-json', 'The body begins with a byte order mark.')
    throw new Problem('invalid-json', error.message)
  }
}

/** Scans the text of a body from its `{`, puts `RawJson` into `body`, and returns the end. */
function scanBody(text: string, start: number, body: JsonObject, batch: boolean): number {
  return scan(text, start, limits.jsonDepthMax, (name, at) => {
    if (name === 'error') return valueEnd(text, at)
    if (name === 'result' || name === 'evidence') {
      const end = valueEnd(text, at)
      body[name] = new RawJson(text.slice(at, end))
      return end
    }
    const operations = batch && name === 'operations' ? body[name] : undefined
    return Array.isArray(operations) ? scanOperations(text, at, operations) : at
  })
}

/**
 * Scans the `operations` of a body from their `[`, replaces those that break a rule by their `Problem`, and returns the end.
 * The text leads, not `operations`: where the member is there twice, and will be refused, they are those of the last one.
 */
function scanOperations(text: string, start: number, operations: unknown[]): number {
  if (text.charCodeAt(start) !== openBracket) return start
  let at = skipSpace(text, start + 1)
  for (let index = 0; text.charCodeAt(at) !== closeBracket; index++) {
    // Validation refuses longer lists; making a Problem of each of a million bad operations would take seconds.
    if (index === limits.batchOperationsMax || operations.length > limits.batchOperationsMax)
      return valueEnd(text, start)
    at = skipSpace(text, scanOperation(text, at, operations, index))
    if (text.charCodeAt(at) === comma) at = skipSpace(text, at + 1)
  }
  return at + 1
}

function scanOperation(text: string, at: number, operations: unknown[], index: number): number {
  const operation = operations[index]
  try {
    if (text.charCodeAt(at) !== openBrace) return valueEnd(text, at)
    return scanBody(text, at, isJsonObject(operation) ? operation : {}, false)
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    operations[index] = error
    return valueEnd(text, at)
  }
}

/** An array or object that encloses the place of a scan: the index or name of the member there, and all names so far. */
type Level = { member: string | number; names: Set<string> | undefined }

/**
 * Scans the value that begins at `start` of a valid JSON text for what `parseStrict` refuses, and returns its end.
 * `exempt` is told each member of the outermost object with the place of its value; the scan goes on where it says.
 */
function scan(
  text: string,
  start: number,
  depthMax: number,
  exempt: (name: string, at: number) => number = (_, at) => at,
): number {
  const levels: Level[] = []
  let at = start
  let nameNext = false
  do {
    const level = levels.at(-1)
    const code = text.charCodeAt(at)
    if (code === quote) {
      const end = stringEnd(text, at)
      const string = stringAt(text, at, end)
      if (string === undefined) throw refusal(nameNext ? levels.slice(0, -1) : levels, 'has a lone surrogate')
      at = end
      if (nameNext && level?.names) {
        level.member = string
        if (level.names.has(string)) throw refusal(levels, 'is there twice')
        level.names.add(string)
        nameNext = false
        at = skipSpace(text, skipSpace(text, end) + 1)
        if (levels.length === 1) at = exempt(string, at)
      }
    } else if (code === minus || (code >= zero && code <= nine)) {
      const end = scalarEnd(text, at)
      if (!isExactNumber(text.slice(at, end)))
        throw refusal(levels, 'is a number that a double cannot keep exactly', 'number-not-exact')
      at = end
    } else {
      at++
      if (isOpen(code)) {
        if (levels.length === depthMax) throw refusal(levels, `is nested deeper than ${depthMax} levels`)
        nameNext = code === openBrace
        levels.push(nameNext ? { member: '', names: new Set() } : { member: 0, names: undefined })
      } else if (isClose(code)) {
        levels.pop()
      } else if (code === comma && level) {
        nameNext = level.names !== undefined
        if (typeof level.member === 'number') level.member++
      }
    }
  } while (levels.length > 0)
  return at
}

/** Refuses the member where a scan is, named by its RFC 6901 pointer. */
function refusal(levels: Level[], message: string, slug?: 'number-not-exact'): Problem {
  const steps = levels.map(({ member }) => `/${String(member).replaceAll('~', '~0').replaceAll('/', '~1')}`)
  return invalidRequest([{ pointer: steps.join(''), message }], slug)
}

// Places in a text that `JSON.parse` has accepted; each function takes where a token begins and returns where it ends.

const quote = 0x22
const backslash = 0x5c
const minus = 0x2d
const zero = 0x30
const nine = 0x39
const comma = 0x2c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

const isOpen = (code: number): boolean => code === openBrace || code === openBracket

const isClose = (code: number): boolean => code === closeBrace || code === closeBracket

function skipSpace(text: string, at: number): number {
  while (isSpace(text.charCodeAt(at))) at++
  return at
}

/** Whether the character at `at` has an odd number of backslashes before it. */
function isEscaped(text: string, at: number): boolean {
  let first = at
  while (text.charCodeAt(first - 1) === backslash) first--
  return (at - first) % 2 === 1
}

/** Looks for the quote as the runtime does, ten times as fast as character by character. */
function stringEnd(text: string, at: number): number {
  do at = text.indexOf('"', at + 1)
  while (isEscaped(text, at))
  return at + 1
}

function scalarEnd(text: string, at: number): number {
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === comma || isClose(code) || isSpace(code)) break
  }
  return at
}

function valueEnd(text: string, at: number): number {
  let depth = 0
  do {
    const code = text.charCodeAt(at)
    if (isOpen(code)) depth++
    else if (isClose(code)) depth--
    if (code === quote) at = stringEnd(text, at)
    else if (depth > 0 || isClose(code)) at++
    else at = scalarEnd(text, at)
  } while (depth > 0)
  return at
}

/** The string between the quotes at `start` and before `end`, or undefined if it holds a lone surrogate. */
function stringAt(text: string, start: number, end: number): string | undefined {
  const source = text.slice(start + 1, end - 1)
  // A surrogate can only be lone when it is escaped: the text was valid UTF-8.
  if (!source.includes('\\')) return source
  const string = JSON.parse(`"${source}"`) as string
  return /\p{Surrogate}/u.test(string) ? undefined : string
}
