/** Reads the YAML of a configuration file strictly: every fault is named by its path and the line it stands on. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Pair } from 'yaml'
import { z } from 'zod'
import { defaults, fileSchema, type FileConfig } from './schema.ts'

/** Keys and list positions from the top of the file; an environment variable is a path of its name alone. */
export type Path = readonly PropertyKey[]
export type Report = (path: Path, message: string) => void
type Mapping = Record<string, unknown>

/** A file's settings with all defaults filled in (undefined when there were faults) and where each of them stands. */
export type ConfigFile = { settings: FileConfig | undefined; lineOf: (path: Path) => number }
export type LineFault = { line: number; path: Path; message: string }

/** Shown as `auth.keys[0].name`. */
export const showPath = (path: Path): string =>
  path.reduce<string>((shown, step) => {
    if (typeof step === 'number') return `${shown}[${step}]`
    return shown === '' ? String(step) : `${shown}.${String(step)}`
  }, '')

/** Parses and validates `text`; hands every fault to `report`. */
export function readConfigFile(text: string, report: (fault: LineFault) => void): ConfigFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const lineAt = (offset: number): number => lines.linePos(offset).line
  const lineOf = (path: Path): number => lineAt(offsetOf(document, path))
  const faults = [...document.errors, ...document.warnings]
  for (const fault of faults) report({ line: lineAt(fault.pos[0]), path: [], message: yamlMessage(fault) })
  if (faults.length > 0) return { settings: undefined, lineOf }
  const onIssue = (path: Path, message: string) => report({ line: lineOf(path), path, message })
  return { settings: validate(plainValue(document, onIssue), onIssue), lineOf }
}

const yamlMessage = (fault: { code: string; message: string }): string =>
  fault.code === 'DUPLICATE_KEY' ? 'this key was given before: keys must be unique' : fault.message

/** The document as plain values. An unresolved or exploding alias is a fault of the file, not of ours. */
function plainValue(document: Document, report: Report): unknown {
  try {
    return document.toJS()
  } catch (error) {
    report([], error instanceof Error ? error.message : String(error))
    return null
  }
}

/** The offset of the key or list entry at `path`; of its nearest ancestor when it is not in the file. */
function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents
  let offset = 0
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document)
    const found = child(node, step)
    if (!found) break
    offset = found.offset
    node = found.node
  }
  return offset
}

function child(node: unknown, step: PropertyKey): { node: unknown; offset: number } | undefined {
  if (isMap(node)) {
    const pair = node.items.find(({ key }: Pair) => isScalar(key) && String(key.value) === step)
    return pair && { node: pair.value, offset: start(pair.key) }
  }
  const item = isSeq(node) && typeof step === 'number' ? node.items[step] : undefined
  return item === undefined ? undefined : { node: item, offset: start(item) }
}

const start = (node: unknown): number => (node as { range?: [number, number, number] | null }).range?.[0] ?? 0

function validate(value: unknown, report: Report): FileConfig | undefined {
  const checked = fileSchema.safeParse(withDefaults(defaults, value), { error: issueMessage })
  if (checked.success) return checked.data
  for (const issue of checked.error.issues) reportIssue(issue, report)
  return undefined
}

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const own = (mapping: Mapping, key: string): unknown => (Object.hasOwn(mapping, key) ? mapping[key] : undefined)

/** Merges sections key by key. A section or list left empty (`retry:` and nothing below) means its defaults. */
function withDefaults(standard: unknown, value: unknown): unknown {
  if (value === undefined) return standard
  if (value === null) return isMapping(standard) || Array.isArray(standard) ? standard : null
  if (!isMapping(standard) || !isMapping(value)) return value
  const keys = new Set([...Object.keys(standard), ...Object.keys(value)])
  return Object.fromEntries([...keys].map((key) => [key, withDefaults(own(standard, key), own(value, key))]))
}

function reportIssue(issue: z.core.$ZodIssue, report: Report): void {
  if (issue.code === 'unrecognized_keys') {
    for (const key of issue.keys) report([...issue.path, key], unknownKey(key, knownKeys(issue.path)))
  } else if (issue.code === 'invalid_key') {
    report(issue.path, issue.issues[0]?.message ?? issue.message)
  } else {
    report(issue.path, issue.message)
  }
}

/** Never repeats the value itself: it may be a secret in the wrong place. */
const issueMessage: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${typeNames[issue.expected] ?? issue.expected}, got ${typeOf(issue.input)}${hint(issue)}`
    case 'invalid_value':
      return `expected one of ${issue.values.map(String).join(', ')}`
    case 'too_small':
      return `expected ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${unitOf(issue.origin)}`
    case 'too_big':
      return `expected at most ${issue.maximum}${unitOf(issue.origin)}`
    default:
      return undefined
  }
}

const typeNames: Record<string, string> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  object: 'a mapping of keys',
  record: 'a mapping of keys',
  array: 'a list',
}

function typeOf(value: unknown): string {
  if (value === undefined) return 'nothing (the key is required)'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a whole number' : 'a number'
  return typeNames[typeof value] ?? typeof value
}

const hint = (issue: { expected?: unknown; input?: unknown }): string =>
  issue.expected === 'string' && typeof issue.input === 'number' ? ' (put it in quotes)' : ''

const unitOf = (origin: string): string => (origin === 'string' ? ' characters' : origin === 'array' ? ' entries' : '')

type Shape = {
  properties?: Record<string, Shape>
  additionalProperties?: Shape | boolean
  items?: Shape
  anyOf?: Shape[]
}

/** The shape of the file as JSON Schema. */
export const fileShape = (): Shape =>
  z.toJSONSchema(fileSchema, { io: 'input', unrepresentable: 'any' }) as unknown as Shape

/** The keys that a mapping at `path` may have. */
function knownKeys(path: Path): string[] {
  let shapes = alternatives(fileShape())
  for (const step of path) shapes = shapes.flatMap((shape) => alternatives(shapeBelow(shape, step)))
  return shapes.flatMap((shape) => Object.keys(shape.properties ?? {}))
}

const alternatives = (shape: Shape | undefined): Shape[] => (shape ? [shape, ...(shape.anyOf ?? [])] : [])

function shapeBelow(shape: Shape, step: PropertyKey): Shape | undefined {
  if (typeof step === 'number') return shape.items
  const further = shape.additionalProperties
  return shape.properties?.[String(step)] ?? (typeof further === 'object' ? further : undefined)
}

function unknownKey(key: string, known: string[]): string {
  const near = known.find((candidate) => editDistance(key.toLowerCase(), candidate) <= 2)
  return near ? `unknown key; did you mean ${near}?` : `unknown key; known here: ${known.join(', ')}`
}

/** Levenshtein's distance, one row at a time. Keys are short. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (const [j, other] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1)
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
