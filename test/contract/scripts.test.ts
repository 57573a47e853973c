/** Each script in lua/ and its definition say the same: keys, arguments, and the words that it answers. */
import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { limits } from '../../src/limits.ts'
import { projectFolder } from '../../src/paths.ts'
import { loadPreludes, type ScriptDefinition, scriptText } from '../../src/redis/scripts.ts'

type Definition = ScriptDefinition<string, string, unknown>
type Found = { definition: Definition; source: string }

const sources = readdirSync(path.join(projectFolder, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => path.join(projectFolder, 'src', file))

const isDefinition = (value: unknown): value is Definition =>
  typeof value === 'object' && value !== null && 'flags' in value && 'args' in value && 'decode' in value

/** Every definition that a module exports, and the text of that module. */
async function definitions(): Promise<Found[]> {
  const found: Found[] = []
  for (const file of sources) {
    const source = readFileSync(file, 'utf8')
    if (!/= defineScript\(/.test(source)) continue
    const module = (await import(pathToFileURL(file).href)) as Record<string, unknown>
    found.push(
      ...Object.values(module)
        .filter(isDefinition)
        .map((definition) => ({ definition, source })),
    )
  }
  return found
}

/** The parts of the header by their word, each on one line. */
function headerOf(text: string): Record<string, string> {
  const [header = ''] = /^(--.*\n)+/.exec(text) ?? []
  const joined = header.replace(/\n--\s{2,}/g, ' ')
  return Object.fromEntries([...joined.matchAll(/^-- (\w+): (.*)$/gm)].map(([, word, said]) => [word, said]))
}

const withoutAsides = (text: string): string => text.replace(/\([^()]*\)/g, '')

/** `key, other (what it is)` -> key, other. */
const namesIn = (text: string): string[] =>
  text === 'none'
    ? []
    : withoutAsides(text)
        .split(',')
        .map((name) => name.trim())

/** The words behind the dash. `without record: late` is the word late; `an entry is …` explains a field. */
function wordsIn(replies: string): string[] {
  const [, said = ''] = withoutAsides(replies).split(' — ')
  const lists = said.split(';').filter((part, index) => index === 0 || part.includes(':'))
  return lists.flatMap((list) => list.split(',').map((word) => word.replace(/^.*:/, '').trim()))
}

/** The numbers in `KEYS[1]`, `ARGV[2]`, sorted. */
const indexesOf = (text: string, name: string): number[] =>
  [...text.matchAll(new RegExp(`\\b${name}\\[(\\d+)\\]`, 'g'))].map(([, index]) => Number(index)).sort((a, b) => a - b)

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1)

const found = await definitions()
const preludes = loadPreludes()
const luaOf = (name: string): string => readFileSync(path.join(projectFolder, 'lua', `${name}.lua`), 'utf8')

t.test('every script has one definition, and every definition a script', async (t) => {
  const files = readdirSync(path.join(projectFolder, 'lua')).filter((file) => file.endsWith('.lua'))
  t.same(found.map(({ definition }) => definition.name).sort(), files.map((file) => file.slice(0, -4)).sort())
  t.ok(found.length > 10)
})

for (const { definition, source } of found) {
  t.test(`${definition.name}: header, definition and code agree`, async (t) => {
    const { name, keys, args } = definition
    const text = luaOf(name)
    const code = text.replace(/^(--.*\n)+/, '')
    const { KEYS = '', ARGV = '', Replies = '' } = headerOf(text)
    if (keys === 'many') t.match(KEYS, /any number|each/)
    else {
      t.same(namesIn(KEYS), [...keys], 'keys')
      t.same(indexesOf(code, 'KEYS'), upTo(keys.length), 'each key is bound once')
    }
    t.same(namesIn(ARGV), [...args], 'arguments')
    t.same(indexesOf(code, 'ARGV'), upTo(args.length), 'each argument is bound once')

    t.match(Replies, /^status, now_us\b.* — /, 'every reply begins with its word and the time')
    const words = wordsIn(Replies)
    t.ok(words.length > 0)
    const whole = scriptText(definition, preludes).replaceAll(/^--.*$/gm, '')
    for (const word of words) {
      t.match(word, /^[a-z_]+$/, 'a word')
      t.ok(whole.includes(`'${word}'`), `Lua answers ${word}`)
    }
    const answer = /\{ '([a-z_]+)', clock\.now_us|record\.(?:tell|reply|receipt)\('([a-z_]+)'/g
    const answered = [...code.matchAll(answer)].map(([, listed, told]) => listed ?? told!)
    for (const word of answered) t.ok(words.includes(word), `the header tells of ${word}`)
    // Elsewhere a decoder may look at one word only, and take any other for the rest.
    const unread = name.startsWith('effect-') ? words.filter((word) => !source.includes(`'${word}'`)) : []
    t.ok(unread.length <= 1, `TypeScript tells the words apart, not ${unread.join(', ')}`)
  })
}

t.test('a script that may write when memory is full never grants, and one that reads says so', async (t) => {
  for (const { definition } of found) {
    const { name, flags } = definition
    const writes = /redis\.call\('(SET|ZADD|ZREM|HSET|DEL|XADD|SADD|LPUSH|PEXPIRE)|record\.write\(/.test(luaOf(name))
    if (flags.includes('no-writes')) t.notOk(writes, `${name} only reads`)
    if (name === 'effect-claim') t.same(flags, [], 'a claim cannot begin when memory is full')
    if (/^effect-(complete|fail|renew|resolve|release|expire|delete)$/.test(name)) t.same(flags, ['allow-oom'], name)
  }
})

t.test('a bound that stands in Lua too is the one of src/limits.ts that its comment names', async (t) => {
  const files = readdirSync(path.join(projectFolder, 'lua'), { recursive: true, encoding: 'utf8' })
  const texts = files
    .filter((file) => file.endsWith('.lua'))
    .map((file) => readFileSync(path.join(projectFolder, 'lua', file), 'utf8'))
  const named = texts.flatMap((text) => text.match(/\blimits\.\w+/g) ?? [])
  // A unit may follow: `3600 * 1000000`.
  const bound = texts.flatMap((text) => [...text.matchAll(/^ *-- limits\.(\w+)\n *local [A-Z_]+ = (\d+)/gm)])
  t.ok(bound.length > 5)
  t.equal(bound.length, named.length, 'each comment stands above its number')
  for (const [, name = '', number] of bound) t.equal(Number(number), Object(limits)[name], name)
})
