/** The human form of `openapi.yaml`: every operation by tag, its parameters, shapes, examples and problems. */
import { type Html, html, page, prose } from './html.ts'

/** The parts of a schema that the page shows. */
export type Schema = {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  required?: string[]
  format?: string
  pattern?: string
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  default?: unknown
  description?: string
}
type Media = { schema?: Schema; example?: unknown; examples?: Record<string, { value?: unknown }> }
export type OperationObject = {
  operationId: string
  summary: string
  description?: string
  tags: string[]
  security?: Record<string, string[]>[]
  parameters?: { name: string; in: string; required?: boolean; schema: Schema; description?: string }[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, { description: string; content?: Record<string, Media> }>
}
/** The parts of an OpenAPI document that the page shows. */
export type Document = {
  info: { title: string; version: string; description?: string }
  tags: { name: string; description?: string }[]
  paths: Record<string, Record<string, OperationObject>>
  components: { schemas: Record<string, Schema> }
}

type Listed = { method: string; path: string; operation: OperationObject }

const list = (items: readonly Html[], separator: string): Html => ({
  markup: items.map(({ markup }) => markup).join(separator),
})

function bounds({ minimum, maximum, minLength, maxLength }: Schema): string {
  const known = (value: number | undefined) => value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER
  const words = [
    ...(known(minimum) ? [`≥ ${minimum}`] : []),
    ...(known(maximum) ? [`≤ ${maximum}`] : []),
    ...(known(minLength) ? [`at least ${minLength} characters`] : []),
    ...(known(maxLength) ? [`at most ${maxLength} characters`] : []),
  ]
  return words.length > 0 ? ` (${words.join(', ')})` : ''
}

function typeOf(schema: Schema): Html {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace('#/components/schemas/', '')
    return html`<a href="#schema-${name}">${name}</a>`
  }
  const words = schema.enum ?? (schema.const === undefined ? undefined : [schema.const])
  if (words)
    return list(
      words.map((word) => html`<code>${JSON.stringify(word)}</code>`),
      ' | ',
    )
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return list(choices.map(typeOf), ' | ')
  if (schema.items) return html`array of ${typeOf(schema.items)}`
  if (typeof schema.additionalProperties === 'object' && Object.keys(schema.additionalProperties).length > 0) {
    return html`map of ${typeOf(schema.additionalProperties)}`
  }
  const type = schema.type === undefined ? 'any JSON' : [schema.type].flat().join(' | ')
  return html`${schema.format ?? type}${bounds(schema)}`
}

const table = (heads: readonly string[], rows: readonly Html[]): Html =>
  html`<div class="scroll">
    <table>
      <thead>
        <tr>
          ${heads.map((head) => html`<th scope="col">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`

const required = (is: boolean | undefined): Html => (is ? html` <span class="dim">required</span>` : html``)

const standard = ({ default: value }: Schema): Html =>
  value === undefined ? html`` : html` Default: <code>${JSON.stringify(value)}</code>.`

function properties(schema: Schema): Html {
  const rows = Object.entries(schema.properties ?? {}).map(
    ([name, member]) =>
      html`<tr>
        <td><code>${name}</code>${required(schema.required?.includes(name))}</td>
        <td>${typeOf(member)}</td>
        <td>${prose(member.description ?? '')}${standard(member)}</td>
      </tr>`,
  )
  return rows.length > 0 ? table(['member', 'type', 'meaning'], rows) : html`<p>${typeOf(schema)}</p>`
}

function parameters({ parameters: all = [] }: OperationObject): Html {
  if (all.length === 0) return html``
  const rows = all.map(
    ({ name, in: place, required: must, schema, description }) =>
      html`<tr>
        <td><code>${name}</code>${required(must)}</td>
        <td>${place}</td>
        <td>${typeOf(schema)}</td>
        <td>${prose(description ?? schema.description ?? '')}${standard(schema)}</td>
      </tr>`,
  )
  return html`<h4>Parameters</h4>
    ${table(['name', 'in', 'type', 'meaning'], rows)}`
}

const written = (example: unknown): string =>
  typeof example === 'string' ? example : JSON.stringify(example, undefined, 2)

function examples({ example, examples: named = {} }: Media): Html {
  const others = Object.entries(named).map(([name, { value }]) => ({ name, value }))
  const all = example === undefined ? others : [{ name: 'Example', value: example }, ...others]
  return html`${all.map(
    ({ name, value }) =>
      html`<details>
        <summary>${name}</summary>
        <pre tabindex="0">${written(value)}</pre>
      </details>`,
  )}`
}

const media = (content: Record<string, Media> = {}): Html =>
  html`${Object.entries(content).map(
    ([type, one]) =>
      html`<p class="dim">${type}: ${typeOf(one.schema ?? {})}</p>
        ${examples(one)}`,
  )}`

/** Slugs in backticks lead to their explanation. */
function answer(status: string, { description, content }: OperationObject['responses'][string]): Html {
  const isProblem = content !== undefined && 'application/problem+json' in content
  const slugs = isProblem ? Object.keys(content['application/problem+json']?.examples ?? {}) : []
  const said = isProblem
    ? list(
        slugs.map((slug) => html`<a href="/problems/${slug}">${slug}</a>`),
        ', ',
      )
    : html`${prose(description)}${media(content)}`
  return html`<tr>
    <td><code>${status}</code></td>
    <td>${said}</td>
  </tr>`
}

function section({ method, path, operation }: Listed): Html {
  const { operationId, summary, description, requestBody, responses } = operation
  const open = operation.security?.length === 0
  const rows = Object.entries(responses).map(([status, one]) => answer(status, one))
  return html`<section aria-labelledby="${operationId}">
    <h3 id="${operationId}">
      <span class="method ${method}">${method.toUpperCase()}</span><span class="path">${path}</span>
    </h3>
    <p>
      ${prose(summary)}.${description === undefined ? '' : html` ${prose(description)}`}${open ? html` <span class="dim">Needs no key.</span>` : ''}
    </p>
    ${parameters(operation)}
    ${
      requestBody
        ? html`<h4>Body</h4>
            ${media(requestBody.content)}`
        : ''
    }
    <h4>Answers</h4>
    <div class="answers">${table(['status', 'meaning'], rows)}</div>
  </section>`
}

function navigation(tags: Document['tags'], listed: readonly Listed[], names: readonly string[]): Html {
  const groups = tags.map(({ name }) => {
    const items = listed
      .filter(({ operation }) => operation.tags.includes(name))
      .map(
        ({ operation, method }) =>
          html`<li>
            <a href="#${operation.operationId}"
              ><span class="method ${method}">${method.toUpperCase()}</span>${operation.operationId}</a
            >
          </li>`,
      )
    return html`<strong>${name}</strong>
      <ul>
        ${items}
      </ul>`
  })
  const schemas = names.map((name) => html`<li><a href="#schema-${name}">${name}</a></li>`)
  return html`<nav aria-label="Operations">
    ${groups}<strong>schemas</strong>
    <ul>
      ${schemas}
    </ul>
  </nav>`
}

/** One self-contained page; no script, nothing loaded from elsewhere. */
export function docsPage({ info, tags, paths, components }: Document): string {
  const listed: Listed[] = Object.entries(paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod).map(([method, operation]) => ({ method, path, operation })),
  )
  const used = tags.filter(({ name }) => listed.some(({ operation }) => operation.tags.includes(name)))
  const sections = used.map(
    ({ name, description = '' }) =>
      html`<h2>${name}</h2>
        <p class="dim">${description}</p>
        ${listed.filter(({ operation }) => operation.tags.includes(name)).map(section)}`,
  )
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      html`<h3 id="schema-${name}">${name}</h3>
        <p>${prose(schema.description ?? '')}</p>
        ${properties(schema)}`,
  )
  return page(
    `${info.title} ${info.version}`,
    html`<div class="page">
      ${navigation(used, listed, Object.keys(components.schemas))}
      <main>
        <h1>${info.title} <span class="dim">${info.version}</span></h1>
        <p>${prose(info.description ?? '')}</p>
        <p>
          The same as a document for machines: <a href="/openapi.yaml">openapi.yaml</a>. What each problem means:
          <a href="/problems">problems</a>.
        </p>
        ${sections}
        <h2>schemas</h2>
        ${schemas}
      </main>
    </div>`,
  )
}
