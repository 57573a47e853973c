/** Documentation that the service serves of itself: the API for people and machines, and what each problem means. */
import { z } from 'zod'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { docsPage, type Document } from '../src/http/docs-page.ts'
import { type Html, html, page, pageHeaders, prose } from '../src/http/html.ts'
import { openapiText } from '../src/http/openapi.ts'
import type { Declare } from '../src/http/operation.ts'
import * as schema from '../src/observability/schema.ts'
import { Problem, problemType, problemTypes, type ProblemType } from '../src/problems.ts'
import * as examples from './examples/system.ts'

const tag = 'operations'
const role = 'open'
const slugParams = z.object({
  slug: z.string().meta({ description: 'The `code` of a problem.', examples: ['stale-token'] }),
})

/** A browser names HTML; everybody else is answered in JSON. */
const wantsHtml = ({ headers }: FastifyRequest): boolean => (headers.accept ?? '').includes('text/html')

function negotiated(request: FastifyRequest, reply: FastifyReply, body: unknown, title: string, content: () => Html) {
  void reply.header('vary', 'accept')
  if (!wantsHtml(request)) return { status: 200, body }
  void reply.headers(pageHeaders)
  return { status: 200, body: page(title, html`<main class="single">${content()}</main>`) }
}

const explained = ({ title, slug, status, explanation, remedy }: ProblemType): Html =>
  html`<h1>${title}</h1>
    <p class="dim"><code>${slug}</code>, status ${status}</p>
    <p>${prose(explanation)}</p>
    <h2>What to do</h2>
    <p>${prose(remedy)}</p>
    <p><a href="/problems">All problems</a> · <a href="/docs">API</a></p>`

const listed = (): Html =>
  html`<h1>Problems</h1>
    <p>Every error is <code>application/problem+json</code> (RFC 9457); its <code>code</code> is one of these.</p>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">code</th>
            <th scope="col">status</th>
            <th scope="col">title</th>
          </tr>
        </thead>
        <tbody>
          ${problemTypes.map(
            ({ slug, status, title }) =>
              html`<tr>
                <td><a href="/problems/${slug}">${slug}</a></td>
                <td>${status}</td>
                <td>${title}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p><a href="/docs">API</a></p>`

export function docsRoutes(declare: Declare): void {
  declareDocument(declare)
  declareProblems(declare)
}

function declareDocument(declare: Declare): void {
  let docs: string | undefined
  const text = (description: string, mediaType: string, example: string) => ({
    200: { description, schema: z.string(), mediaType, example },
  })
  declare(
    {
      ...{ id: 'readDocs', method: 'GET', url: '/docs', role, tag },
      summary: 'This API as a page',
      answers: text('A page that loads nothing from elsewhere.', 'text/html', '<!doctype html>…'),
    },
    ({ request, reply }) => {
      docs ??= docsPage(request.server.swagger() as unknown as Document)
      void reply.headers(pageHeaders)
      return { status: 200, body: docs }
    },
  )
  declare(
    {
      ...{ id: 'readOpenapi', method: 'GET', url: '/openapi.yaml', role, tag },
      summary: 'This API as an OpenAPI 3.1 document',
      answers: text('The document.', 'application/yaml', 'openapi: 3.1.0\n…'),
    },
    ({ request, reply }) => {
      void reply.type('application/yaml')
      return { status: 200, body: openapiText(request.server.swagger()) }
    },
  )
}

function declareProblems(declare: Declare): void {
  declare(
    {
      ...{ id: 'listProblems', method: 'GET', url: '/problems', role, tag },
      summary: 'Every problem type',
      answers: {
        200: { description: 'All of them.', schema: schema.problemList, example: examples.problems, orHtml: true },
      },
    },
    ({ request, reply }) => negotiated(request, reply, { problems: problemTypes }, 'Problems', listed),
  )
  declare(
    {
      ...{ id: 'readProblem', method: 'GET', url: '/problems/:slug', role, tag },
      summary: 'What a problem means and what to do',
      params: slugParams,
      answers: {
        200: { description: 'The explanation.', schema: schema.problemPage, example: examples.problem, orHtml: true },
      },
      problems: ['not-found'],
    },
    ({ params, request, reply }) => {
      const found = problemType(params.slug)
      if (!found) throw new Problem('not-found', 'There is no problem type of this name.')
      return negotiated(request, reply, found, found.title, () => explained(found))
    },
  )
}
