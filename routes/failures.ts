/** Failures: what an error means, and the tables that say so. */
import type { Classifier } from '../src/failures/classify.ts'
import * as schema from '../src/failures/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import * as examples from './examples/failures.ts'

const tag = 'failures'

/** `nowMs` is the time that "banned until <ms>" is compared with. */
export function failureRoutes(declare: Declare, classifier: Classifier, nowMs: () => number): void {
  declare(
    {
      id: 'classifyFailure',
      method: 'POST',
      url: '/api/v1/failures/classify',
      role: 'reader',
      tag,
      summary: 'What an error means: retry, breaker, and whether the effect may have happened',
      body: schema.classifyBodySchema,
      bodyExample: examples.classify,
      answers: {
        200: { description: 'What it means.', schema: schema.classificationSchema, example: examples.classified },
      },
    },
    ({ body: { error, exchange, market } }) => ({
      status: 200,
      body: classifier.classify(error, { exchange, market, nowMs: nowMs() }),
    }),
  )
  declare(
    {
      id: 'listFailureTypes',
      method: 'GET',
      url: '/api/v1/failures/types',
      role: 'reader',
      tag,
      summary: 'All failure types, and what each means where no rule says otherwise',
      answers: { 200: { description: 'The types.', schema: schema.typesSchema, example: examples.types } },
    },
    () => ({ status: 200, body: { types: classifier.types() } }),
  )
  declare(
    {
      id: 'listFailureRules',
      method: 'GET',
      url: '/api/v1/failures/rules',
      role: 'reader',
      tag,
      summary: 'All rules in the order in which they are tried, those of the configuration first',
      answers: { 200: { description: 'The rules.', schema: schema.rulesSchema, example: examples.rules } },
    },
    () => ({ status: 200, body: { rules: classifier.rules() } }),
  )
}
