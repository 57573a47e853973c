import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { builtInEffectTypes, parseConfig } from '../../src/config.ts'
import { createMetrics } from '../../src/observability/metrics.ts'
import { problemTypes } from '../../src/problems.ts'
import { startApp } from '../helpers/app.ts'
import { durabilityName, setUps } from '../helpers/loss.ts'

/** The rows of the tables under a heading of a Markdown file, cells without their backticks. */
function tableOf(file: string, firstHead: string): string[][] {
  const lines = readFileSync(file, 'utf8').split('\n')
  const start = lines.findIndex((line) => line.split('|')[1]?.trim() === firstHead)
  const rows = start === -1 ? [] : lines.slice(start + 2)
  const end = rows.findIndex((line) => !line.startsWith('|'))
  return rows.slice(0, end === -1 ? undefined : end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

/** Every metric of the service: what prom-client brings is not ours to list. */
function ownMetrics() {
  const metrics = createMetrics(builtInEffectTypes)
  metrics.watch({
    memory: () => ({ used_bytes: 1, budget_bytes: 2 }),
    effects: async () => new Map(),
    breakers: async () => [],
    storeSilentSeconds: () => 0,
    waiters: () => 0,
  })
  const all = metrics.registry.getMetricsAsArray() as unknown as { name: string; type: string; labelNames: string[] }[]
  return { metrics, own: all.filter(({ name }) => !/^(process|nodejs)_/.test(name)) }
}

t.test('docs/metrics.md lists every metric with its kind and labels, and no other', async (t) => {
  const { own } = ownMetrics()
  const kinds = await Promise.all(
    own.map(async (metric) => (metric as unknown as { get(): Promise<{ type: string }> }).get()),
  )
  const registered = own.map(({ name, labelNames }, at) => [name, kinds[at]!.type, labelNames.join(', ') || 'none'])
  const documented = tableOf('docs/metrics.md', 'metric').map(([name, kind, labels]) => [name, kind, labels])
  t.same(documented.toSorted(), registered.toSorted())
})

t.test('the alerts of docs/metrics.md use metrics that exist', async (t) => {
  const names = ownMetrics().own.map(({ name }) => name)
  const expressions = tableOf('docs/metrics.md', 'alert when').map(([expression]) => expression!)
  t.ok(expressions.length > 3)
  for (const expression of expressions) {
    const used = [...expression.matchAll(/effectonce_\w+/g)].map(([name]) => name.replace(/_bucket$/, ''))
    t.ok(used.length > 0 && used.every((name) => names.includes(name)), expression)
  }
})

t.test(
  'docs/configuration.md lists every environment variable that is read, with its default, and no other',
  async (t) => {
    const sources = ['src/config.ts', 'src/config/environment.ts', 'src/config/secrets.ts']
    const read = sources.flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/(?:\bread\(\s*|variable\(env, )'([A-Z_]+)'/g)].map(([, name]) => name!),
    )
    const rows = tableOf('docs/configuration.md', 'variable')
    t.same(rows.map(([name]) => name).toSorted(), [...new Set(read)].toSorted())
    const { server } = parseConfig('', {}, null)
    for (const [name = '', byDefault] of rows) {
      const value = (server as Record<string, string | number | boolean | null>)[name.toLowerCase()] ?? null
      if (value === null) t.match(byDefault, /^none/, name)
      else t.equal(byDefault, String(value), name)
    }
  },
)

t.test('/docs shows every operation and schema on one page that loads and runs nothing', async (t) => {
  const { call, app } = await startApp(t)
  const { status, text, headers } = await call('GET', '/docs')
  t.equal(status, 200)
  t.match(headers['content-type'], /^text\/html/)
  t.match(headers['content-security-policy'], /^default-src 'none'; style-src 'sha256-/)
  const { paths, components } = app.swagger() as unknown as {
    paths: Record<string, Record<string, { operationId: string }>>
    components: { schemas: object }
  }
  for (const { operationId } of Object.values(paths).flatMap((methods) => Object.values(methods))) {
    t.ok(text.includes(`<h3 id="${operationId}">`), operationId)
  }
  for (const name of Object.keys(components.schemas)) t.ok(text.includes(`<h3 id="schema-${name}">`), name)
  t.notMatch(text, /<(script|link|img|iframe|object)\b|\ssrc=|@import|url\(/)
  const targets = [...text.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id!)
  t.same(
    targets.filter((id) => !text.includes(`id="${id}"`)),
    [],
    'no link leads nowhere',
  )
})

t.test('/openapi.yaml is the file', async (t) => {
  const { call } = await startApp(t)
  const { status, text, headers } = await call('GET', '/openapi.yaml')
  t.equal(status, 200)
  t.equal(headers['content-type'], 'application/yaml')
  t.ok(text === readFileSync('openapi.yaml', 'utf8'))
})

t.test('every problem has its page, for programs and for people', async (t) => {
  const { call } = await startApp(t)
  t.same((await call('GET', '/problems')).body, { problems: problemTypes })
  const list = await call('GET', '/problems', undefined, { accept: 'text/html' })
  for (const type of problemTypes) {
    t.same((await call('GET', `/problems/${type.slug}`, undefined, { accept: '*/*' })).body, type)
    const page = await call('GET', `/problems/${type.slug}`, undefined, { accept: 'text/html,*/*;q=0.8' })
    t.match(page.headers['content-type'], /^text\/html/)
    t.equal(page.headers['vary'], 'accept')
    t.ok(page.text.includes(`<h1>${type.title}</h1>`), type.slug)
    t.ok(list.text.includes(`href="/problems/${type.slug}"`), type.slug)
  }
  const unknown = await call('GET', '/problems/%3Cscript%3E', undefined, { accept: 'text/html' })
  t.match(unknown, { status: 404, body: { code: 'not-found' } })
})

t.test('docs/guarantees.md names for each fault a test that is there', async (t) => {
  const rows = tableOf('docs/guarantees.md', 'fault')
  t.ok(rows.length > 10)
  for (const [fault = '', , , shownBy = ''] of rows) {
    const files = shownBy.split(', ')
    t.ok(
      files.every((file) => file.startsWith('test/') && existsSync(file)),
      `${fault}: ${shownBy}`,
    )
  }
})

t.test('docs/guarantees.md tells of every set-up that `npm run loss` measures, and of no other', (t) => {
  const told = tableOf('docs/guarantees.md', 'set-up').map(([name, durability]) => [name, durability])
  const measured = setUps.map((setUp) => [setUp.name.replaceAll('`', ''), durabilityName(setUp)])
  t.same(told, measured)
  t.end()
})
