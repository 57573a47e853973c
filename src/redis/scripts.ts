/**
 * Script definitions: names for KEYS and ARGV, and one place where a reply becomes a typed value. The text of a script
 * is its file in `lua/`, behind the preludes that every script shares.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectFolder } from '../paths.ts'

/** Script flags of Redis 7: `allow-oom` lets a script write when memory is full, `no-writes` lets it read then. */
export type ScriptFlag = 'allow-oom' | 'no-writes'

/** What every script answers: a status word, Redis's clock in microseconds, then fields. */
export type RawReply = [status: string, nowUs: number, ...fields: unknown[]]

/** The fields of a reply in one string: notes of the status, and bytes that begin at `at`. */
export type PackedFields = [notes: string, bytes: Buffer, at: number]

const space = 0x20
const comma = 0x2c
const zero = 0x30

/**
 * Reads `<status>[,<note>…] <now_us> <bytes>`: a list in a list costs Redis a buffer of its own, and the client library an
 * object for each field.
 */
function unpackReply(reply: Buffer): [string, number, ...PackedFields] {
  let at = 0
  let statusEnd = 0
  for (; reply[at] !== space; at++) if (reply[at] === comma && statusEnd === 0) statusEnd = at
  const noted = statusEnd !== 0
  const status = reply.toString('latin1', 0, noted ? statusEnd : at)
  const notes = noted ? reply.toString('latin1', statusEnd, at) : ''
  let nowUs = 0
  for (at++; reply[at] !== space; at++) nowUs = nowUs * 10 + (reply[at] as number) - zero
  return [status, nowUs, notes, reply, at + 1]
}

export const readReply = (reply: unknown): RawReply =>
  Buffer.isBuffer(reply) ? unpackReply(reply) : (reply as RawReply)

export type ScriptDefinition<Key extends string, Argument extends string, Reply> = {
  name: string
  flags: readonly ScriptFlag[]
  /** Names in the order of KEYS; `'many'` where the number varies. */
  keys: readonly Key[] | 'many'
  /** Names in the order of ARGV. */
  args: readonly Argument[]
  /** Whether many calls of it may go out as one: each must be short, and its keys of one slot. */
  coalesced?: true
  /** Its reply holds bytes: strings in it come as buffers, and the whole may be one, see `readReply`. */
  bytes?: true
  decode: (reply: RawReply) => Reply
}

export type AnyScript = ScriptDefinition<string, string, unknown>

/** One call of a script, ready to be sent: values in the order of the definition, as they are when they are read. */
export type ScriptCall = { definition: AnyScript; keys: readonly string[]; values: readonly (string | number)[] }

/** Declares a script; a contract test compares the declaration with the header of `lua/<name>.lua`. */
export function defineScript<const Key extends string, const Argument extends string, Reply>(
  definition: ScriptDefinition<Key, Argument, Reply>,
): ScriptDefinition<Key, Argument, Reply> {
  return definition
}

const luaFolder = join(projectFolder, 'lua')

/** Texts of the shared preludes by name; tests replace `clock` to move Redis's clock. */
export type Preludes = { clock: string; [name: string]: string }

export function loadPreludes(folder: string = luaFolder): Preludes {
  const names = readdirSync(join(folder, 'prelude')).filter((file) => file.endsWith('.lua'))
  const texts = names.map((file) => [file.slice(0, -4), readFileSync(join(folder, 'prelude', file), 'utf8')])
  return { clock: '', ...(Object.fromEntries(texts) as Record<string, string>) }
}

/** Scripts that do the same as another one on many effects at once. */
const manyScripts = new WeakMap<AnyScript, ManyScript>()
type ManyScript = AnyScript & { each: AnyScript }

/** The script that does on many effects what `definition` does on one; keys and arguments of one stand behind another's. */
export function manyOf(definition: AnyScript): ManyScript {
  const known = manyScripts.get(definition)
  if (known) return known
  const made: ManyScript = { ...definition, name: `${definition.name}-many`, keys: 'many', each: definition }
  manyScripts.set(definition, made)
  return made
}

/** Its arguments are those behind the offsets; what stands above the first of them is made once for all items. */
function bodyOf(definition: AnyScript | ManyScript, folder: string): string {
  const read = (name: string) => readFileSync(join(folder, `${name}.lua`), 'utf8')
  if (!('each' in definition)) return read(definition.name)
  const { name, keys, args } = definition.each
  const lines = read(name)
    .replace(/\b(KEYS|ARGV)\[(\d+)\]/g, '$1[$1_BEFORE + $2]')
    .split('\n')
  const first = lines.findIndex((line) => line.includes('_BEFORE'))
  const [once, each] = [lines.slice(0, first), lines.slice(first)].map((part) => part.join('\n'))
  const end = `return many.run(operation, #KEYS / ${keys.length}, ${keys.length}, ${args.length})`
  return `local KEYS, ARGV = KEYS, ARGV\n${once}\nlocal function operation(KEYS_BEFORE, ARGV_BEFORE)\n${each}\nend\n${end}`
}

/** The whole text that is sent to Redis: the flags, the clock, the preludes that the script names, the script. */
export function scriptText(definition: AnyScript, preludes: Preludes, folder: string = luaFolder): string {
  const body = bodyOf(definition, folder)
  const used = Object.keys(preludes).filter((name) => name !== 'clock' && body.includes(`${name}.`))
  const flags = definition.flags.length > 0 ? ` flags=${definition.flags.join(',')}` : ''
  return [`#!lua${flags}`, preludes.clock, ...used.map((name) => preludes[name]), body].join('\n')
}

/** The text that is sent to Redis, the digest by which EVALSHA knows it, and whether its reply holds bytes. */
export type ScriptText = { text: string; sha: string; bytes: boolean }

/** Texts by definition, each read once. */
export function createScriptTexts(preludes: Preludes): (definition: AnyScript) => ScriptText {
  const texts = new Map<string, ScriptText>()
  return (definition) => {
    const known = texts.get(definition.name)
    if (known) return known
    const text = scriptText(definition, preludes)
    const made = { text, sha: createHash('sha1').update(text).digest('hex'), bytes: definition.bytes ?? false }
    texts.set(definition.name, made)
    return made
  }
}

export type ScriptTexts = ReturnType<typeof createScriptTexts>
