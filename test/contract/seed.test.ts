/** docs/seed.md names only tests and endpoints that exist, and every scenario of the original Python package. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'

const document = readFileSync('docs/seed.md', 'utf8')
const scenarioFile = 'test/faults/seed.test.ts'

/** The rows of every table with the four columns, trimmed. */
const rows = document
  .split('\n')
  .filter((line) => line.startsWith('|') && !/^\| *(-|original )/.test(line))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  .filter((cells) => cells.length === 4)

/** What a test's title may look like in source: whatever stands between quotes after `t.test(`. */
function titlesOf(file: string): string[] {
  const source = readFileSync(file, 'utf8')
  return [...source.matchAll(/\bt\.test\(\s*(['"`])(.*?)\1,/gs)].map(([, , title]) => title!)
}

const literal = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** Titles with `${name}` stand for any text there. */
const matches = (title: string) => (named: string) =>
  new RegExp(
    `^${title
      .split(/\$\{\w+\}/)
      .map(literal)
      .join('.+')}$`,
  ).test(named)

t.test('docs/seed.md names tests that exist', async (t) => {
  t.ok(rows.length > 70)
  for (const cell of rows.map(([, , test]) => test!).filter((test) => test !== '')) {
    const [, file, title] = /^`(test\/[\w/-]+\.test\.ts)`: (.+)$/.exec(cell) ?? []
    t.ok(file !== undefined && titlesOf(file).some((known) => matches(known)(title!.replaceAll('\\', ''))), cell)
  }
})

t.test('docs/seed.md names endpoints that exist', async (t) => {
  const { paths } = parse(readFileSync('openapi.yaml', 'utf8')) as { paths: Record<string, object> }
  const named = [...document.matchAll(/`(GET|POST|DELETE) (\/[^`?]+)`/g)]
  t.ok(named.length > 70)
  for (const [text, method, path] of named) t.ok(method!.toLowerCase() in (paths[path!] ?? {}), text)
  for (const [original = '', endpoint] of rows) t.match(endpoint, /^(`(GET|POST|DELETE) \/\S+`)?$/, original)
})

t.test('every scenario of the original is in docs/seed.md and is a test, and no other', async (t) => {
  const scenarios = (text: string) => [...new Set(text.match(/\btest_[a-z_]+\b/g))].toSorted()
  const tested = titlesOf(scenarioFile).flatMap((title) => scenarios(title))
  t.equal(tested.length, 12)
  t.same(scenarios(document), tested.toSorted())
  const rest = titlesOf(scenarioFile).filter((title) => !rows.some(([, , test]) => matchesRow(title, test!)))
  t.same(rest, [], 'every test of the scenarios is named')
})

const matchesRow = (title: string, cell: string) => matches(title)(cell.replace(`\`${scenarioFile}\`: `, ''))

t.test('rows without a test say why', async (t) => {
  for (const [original = '', , test, remarks] of rows) t.ok(test !== '' || remarks !== '', original)
})
