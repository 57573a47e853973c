import { readFileSync } from 'node:fs'
import { pino } from 'pino'
import t from 'tap'
import { parse } from 'yaml'
import { z } from 'zod'
import { registerRoutes } from '../../routes/index.ts'
import { buildApp } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'
import { openapiText } from '../../src/http/openapi.ts'
import type { Declare, Operation as Declared } from '../../src/http/operation.ts'
import { problemTypes } from '../../src/problems.ts'
import { createServices, type Services } from '../../src/services.ts'

type Media = { schema: object; example?: unknown; examples?: Record<string, { value: unknown }> }
type Content = Record<string, Media>
type Operation = {
  operationId: string
  summary: string
  tags: string[]
  security: object[]
  parameters?: { in: string; name: string; required: boolean; schema: { pattern?: string } }[]
  requestBody?: { required: boolean; content: Content }
  responses: Record<string, { description: string; content?: Content }>
}
type Document = {
  openapi: string
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, object> }
}

/** The service without a store: nothing listens at the address. */
async function withServices<T>(config: string, env: Record<string, string>, use: (services: Services) => Promise<T>) {
  const address = { url: 'unix:///nonexistent', username: null, password: null, tls: null }
  const log = pino({ level: 'silent' })
  const services = createServices({ config: parseConfig(config, env, null), address, log })
  try {
    return await use(services)
  } finally {
    await services.stop()
  }
}

const generate = (config = '', env = {}) =>
  withServices(config, env, async (services) => {
    const app = await buildApp(services)
    const document = app.swagger()
    await app.close()
    return openapiText(document)
  })

const text = readFileSync('openapi.yaml', 'utf8')
const document = parse(text) as Document
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })),
)
const answers = operations.flatMap(({ operationId, responses }) =>
  Object.entries(responses).map(([status, answer]) => ({ name: `${operationId} ${status}`, ...answer })),
)

/** What the schema of a place in the document takes. */
function schemaOf(schema: object): z.ZodType {
  const whole = { ...schema, $defs: document.components.schemas }
  const local = JSON.stringify(whole).replaceAll('#/components/schemas/', '#/$defs/')
  return z.fromJSONSchema(JSON.parse(local) as Parameters<typeof z.fromJSONSchema>[0])
}

const examplesOf = ({ example, examples = {} }: Media): [string, unknown][] => [
  ...(example === undefined ? [] : [['example', example] as [string, unknown]]),
  ...Object.entries(examples).map(([name, { value }]): [string, unknown] => [name, value]),
]

t.test('openapi.yaml is what the code says, to the byte', async (t) => {
  t.ok(text === (await generate()), 'openapi.yaml is old: npm run build && node scripts/openapi.mjs')
})

t.test('the document depends neither on the configuration nor on the environment', async (t) => {
  const key = `{name: a, sha256: ${'a'.repeat(64)}, role: reader, namespace: other}`
  const config = `{auth: {keys: [${key}], metrics_anonymous: true}, effects: {types: {my_type: {lease_seconds: 7}}}}`
  t.ok(text === (await generate(config, { PORT: '9999', HOST: '0.0.0.0', REDIS_URL: 'redis://elsewhere' })))
})

t.test('every endpoint is in the document, and nothing else is', async (t) => {
  const declared: string[] = []
  const record = ({ id, method, url }: Pick<Declared<never, never, never>, 'id' | 'method' | 'url'>) => {
    declared.push(`${String(method)} ${url.replace(/:(\w+)/g, '{$1}')} ${id}`)
  }
  await withServices('', {}, async (services) => registerRoutes(record as Declare, services))
  const documented = operations.map(({ method, path, operationId }) => `${method.toUpperCase()} ${path} ${operationId}`)
  t.same(documented.toSorted(), declared.toSorted())
})

t.test(
  'every operation has a name of its own (verb and noun), a summary, a tag that is explained, and its security',
  async (t) => {
    const ids = operations.map(({ operationId }) => operationId)
    t.equal(new Set(ids).size, ids.length)
    for (const { operationId, summary, tags, security } of operations) {
      t.match(operationId, /^[a-z]+([A-Z][a-z]+)+$/)
      t.ok(summary.length > 5 && !summary.endsWith('.'), `${operationId} has a summary`)
      t.ok(tags.length === 1 && document.tags.some(({ name }) => name === tags[0]), `${operationId} has a known tag`)
      t.ok(Array.isArray(security), `${operationId} says whether it needs a key`)
    }
  },
)

t.test('the event stream declares the header that it goes on from, in the form that it takes', async (t) => {
  const { parameters = [] } = document.paths['/api/v1/events']!['get']!
  const header = parameters.find(({ name }) => name === 'Last-Event-ID')
  t.match(header, { in: 'header', required: false })
  const form = new RegExp(header?.schema.pattern ?? '^$')
  t.ok(form.test('1795468122456-0') && form.test('1795468122456'))
  t.notOk(form.test('yesterday'))
})

t.test('every answer with a body shows an example, and so does every body', async (t) => {
  for (const { operationId, requestBody } of operations) {
    for (const media of Object.values(requestBody?.content ?? {}))
      t.ok(examplesOf(media).length, `${operationId}: body`)
  }
  for (const { name, description, content } of answers) {
    t.ok(description, `${name} has a description`)
    t.ok(content !== undefined || name.endsWith(' 204'), `${name} has a body`)
    for (const [type, media] of Object.entries(content ?? {})) t.ok(examplesOf(media).length, `${name} ${type}`)
  }
})

t.test('every example is what its schema says', async (t) => {
  const bodies = operations.map(({ operationId, requestBody }) => ({ name: operationId, ...requestBody }))
  let checked = 0
  for (const { name, content = {} } of [...answers, ...bodies]) {
    for (const [type, media] of Object.entries(content)) {
      const schema = schemaOf(media.schema)
      for (const [example, value] of examplesOf(media)) {
        const { success, error } = schema.safeParse(value)
        t.ok(success, `${name} ${type} ${example} ${error?.message ?? ''}`)
        checked++
      }
    }
  }
  t.ok(checked > operations.length)
})

t.test('a schema of the document refuses what does not fit', async (t) => {
  const { schema } = document.paths['/api/v1/effects/claim']!['post']!.requestBody!.content['application/json']!
  t.notOk(schemaOf(schema).safeParse({ type: 'order_placement', entity: 'a', owner: 5 }).success)
  t.notOk(schemaOf(schema).safeParse({ type: 'order_placement', entity: 'a', owner: 'b', ownr: 'c' }).success)
})

t.test('a body may be left out only where its schema takes {}', async (t) => {
  for (const { operationId, requestBody } of operations) {
    if (!requestBody || requestBody.required) continue
    const { schema } = requestBody.content['application/json']!
    t.ok(schemaOf(schema).safeParse({}).success, operationId)
  }
  t.equal(document.paths['/api/v1/effects/claim']!['post']!.requestBody!.required, true)
})

t.test('every problem is named by an operation, under its own status, or belongs to no single one', async (t) => {
  const named = new Map<string, Set<string>>()
  for (const { responses } of operations) {
    for (const [status, { content }] of Object.entries(responses)) {
      for (const slug of Object.keys(content?.['application/problem+json']?.examples ?? {})) {
        named.set(slug, (named.get(slug) ?? new Set()).add(status))
      }
    }
  }
  for (const [slug, statuses] of named) {
    t.same([...statuses], [String(problemTypes.find((type) => type.slug === slug)?.status)], slug)
  }
  // Of any path or request; of a durability and of breakers that are not built yet.
  const anywhere = ['method-not-allowed', 'request-timeout', 'headers-too-large']
  const general = [...anywhere, 'durability-not-reached', 'version-conflict']
  const unnamed = problemTypes.filter(({ slug }) => !named.has(slug) && !general.includes(slug))
  t.same(
    unnamed.map(({ slug }) => slug),
    [],
  )
})

t.test('components have names that mean something, all are used, and every reference leads somewhere', async (t) => {
  const names = Object.keys(document.components.schemas)
  const referred = new Set([...text.matchAll(/#\/components\/schemas\/([\w-]+)/g)].map(([, name]) => name))
  for (const name of names) t.match(name, /^([A-Z][a-z]+)+$/)
  t.same(
    [...referred].filter((name) => !names.includes(name!)),
    [],
  )
  t.same(
    names.filter((name) => !referred.has(name)),
    [],
  )
  t.equal(document.openapi, '3.1.0')
})

t.test('a YAML 1.1 reader finds the same document', async (t) => {
  t.same(parse(text, { version: '1.1' }), document)
})
