/**
 * What a worker asks and what it must be answered. A scenario is {effects: how many a unit settles, timed: the kind of
 * request whose latency is shown, unit(worker, number)}; a unit throws on any answer that is not exactly right.
 */
import { WrongAnswer, post } from './client.mjs'
import { resultOf } from './result.mjs'

const entityOf = (number) => `order-${String(number).padStart(12, '0')}`

const hex = (number, length) => number.toString(16).padStart(length, '0')

/** Random for the run, counted within it: as unique as a UUID, and cheaper for the driver. */
const runId = hex(Math.floor(Math.random() * 2 ** 44), 11)
const claimIdOf = (number) => `${runId.slice(0, 8)}-${runId.slice(8)}0-4000-8000-${hex(number, 12)}`

function expect(answer, status, ...texts) {
  const right = answer.status === status && texts.every((text) => answer.body.includes(text))
  if (!right)
    throw new WrongAnswer(`expected ${status} ${texts.join(' ')}, got ${answer.status} ${answer.body.slice(0, 400)}`)
}

/** The integer behind the member's name, as text. */
function memberNumber(body, name, from = 0) {
  const at = body.indexOf(`"${name}":`, from)
  const found = at < 0 ? null : /^\d+/.exec(body.slice(at + name.length + 3, at + name.length + 25))
  if (found === null) throw new WrongAnswer(`no ${name} in ${body.slice(from, from + 400)}`)
  return found[0]
}

/** `id`: the claim's, where several claim one effect; the length of a body is in its head, so it is never changed after. */
const claimBody = (number, extra = '', id = claimIdOf(number)) =>
  `{"type":"order_placement","entity":"${entityOf(number)}","owner":"bench","claim_id":"${id}"${extra}}`

const completeBody = (number, token) =>
  `{"type":"order_placement","entity":"${entityOf(number)}","fencing_token":${token},"result":${resultOf(entityOf(number))}}`

/** The calls of the service, with the headers of the deployment. */
const calls = (headers) => ({
  claim: (number, extra, id) => post('/api/v1/effects/claim', claimBody(number, extra, id), headers),
  complete: (number, token) => post('/api/v1/effects/complete', completeBody(number, token), headers),
  batch: (operations) => post('/api/v1/effects/batch', `{"operations":[${operations.join(',')}]}`, headers),
})

/** The same request as a claim's, answered without a store: what HTTP alone costs. */
export function bare({ headers }) {
  const { claim } = calls(headers)
  return {
    effects: 1,
    timed: 'claim',
    unit: async ({ ask }, number) =>
      expect(await ask('claim', claim(number)), 201, '"outcome":"claimed"', entityOf(number)),
  }
}

/** Claim, complete: one effect. `extraOf(number)`: further members of the claim, with a comma in front. */
export function single({ headers }, extraOf = () => '') {
  const { claim, complete } = calls(headers)
  return {
    effects: 1,
    timed: 'claim',
    async unit({ ask }, number) {
      const grant = await ask('claim', claim(number, extraOf(number)))
      expect(grant, 201, '"outcome":"claimed"', '"attempt":1')
      const token = memberNumber(grant.body, 'fencing_token')
      expect(await ask('complete', complete(number, token)), 200, '"outcome":"completed"')
    },
  }
}

/** Claims of effects that are settled already: the stored result comes back, each time that of its own effect. */
export function duplicates({ headers }, settled) {
  const { claim } = calls(headers)
  return {
    effects: 1,
    timed: 'claim',
    async unit({ ask }, number) {
      const known = settled[number % settled.length]
      const repeat = claim(known, '', claimIdOf(number))
      expect(await ask('claim', repeat), 200, '"outcome":"completed"', resultOf(entityOf(known)))
    },
  }
}

/** One worker holds the effect, a second one waits for it; when the first completes, the second is answered. */
export function waiting({ headers }) {
  const { claim, complete } = calls(headers)
  return {
    effects: 1,
    timed: 'wait',
    connectionsPerWorker: 2,
    async unit({ ask }, number) {
      const grant = await ask('claim', claim(number))
      expect(grant, 201, '"outcome":"claimed"')
      const second = claim(number, ',"wait_seconds":10', `${claimIdOf(number)}-2`)
      const waits = ask('wait', second, 1)
      waits.catch(() => undefined)
      const completed = await ask('complete', complete(number, memberNumber(grant.body, 'fencing_token')))
      expect(completed, 200, '"outcome":"completed"')
      expect(await waits, 200, '"outcome":"completed"', resultOf(entityOf(number)))
    },
  }
}

export const batchOf = 100
const numbersOf = (unit) => Array.from({ length: batchOf }, (_, at) => unit * batchOf + at)

/** Batches name effects by themselves, apart from those of single claims. */
const batchEntity = (number) => `batch-${String(number).padStart(12, '0')}`
const batchResultOf = (number) => resultOf(batchEntity(number))

const operation = (op, number, rest) =>
  `{"op":"${op}","type":"order_placement","entity":"${batchEntity(number)}",${rest}}`

/** Every result of a batch with its status and, in its part of the text, the outcome. Answers the parts. */
function expectBatch(answer, status, outcome) {
  if (answer.status !== 200) expect(answer, 200)
  const parts = answer.body.split(`{"status":${status},"body":{`)
  const right = parts.length === batchOf + 1 && parts.every((part, at) => at === 0 || part.includes(outcome))
  if (!right)
    throw new WrongAnswer(`${parts.length - 1} of ${batchOf} ${status} ${outcome}: ${answer.body.slice(0, 600)}`)
  return parts
}

/** 100 claims in one request. `extraOf(number)`: further members of each claim, with a comma in front. */
export function batchClaims({ headers }, extraOf = () => '') {
  const { batch } = calls(headers)
  const claim = (number) =>
    operation('claim', number, `"owner":"bench","claim_id":"${claimIdOf(number)}"${extraOf(number)}`)
  return {
    effects: batchOf,
    timed: 'claims',
    async unit({ ask }, unit) {
      expectBatch(await ask('claims', batch(numbersOf(unit).map(claim))), 201, '"outcome":"claimed"')
    },
  }
}

/** 100 effects: their claims in one request, their completions in another. */
export function batch({ headers }, extra = '') {
  const send = calls(headers).batch
  const claim = (number) => operation('claim', number, `"owner":"bench","claim_id":"${claimIdOf(number)}"${extra}`)
  return {
    effects: batchOf,
    timed: 'claims',
    async unit({ ask }, unit) {
      const numbers = numbersOf(unit)
      const grants = expectBatch(await ask('claims', send(numbers.map(claim))), 201, '"outcome":"claimed"')
      const complete = (number, at) => {
        const token = memberNumber(grants[at + 1], 'fencing_token')
        return operation('complete', number, `"fencing_token":${token},"result":${batchResultOf(number)}`)
      }
      expectBatch(await ask('completes', send(numbers.map(complete))), 200, '"outcome":"completed"')
    },
  }
}

/** Callers that wait for an effect which one holds; `effect` and `waiter` are small numbers. */
export function waitersOf({ headers }) {
  const { claim, complete } = calls(headers)
  const first = 10 ** 11
  return {
    async hold(client, effect) {
      const grant = await client.ask(claim(first + effect, ',"lease_seconds":600'))
      expect(grant, 201, '"outcome":"claimed"')
      return memberNumber(grant.body, 'fencing_token')
    },
    async wait(client, effect, waiter) {
      const number = first + effect
      const mine = claim(number, ',"wait_seconds":60', `${claimIdOf(number)}-${waiter}`)
      expect(await client.ask(mine), 200, '"outcome":"completed"', resultOf(entityOf(number)))
    },
    async complete(client, effect, token) {
      expect(await client.ask(complete(first + effect, token)), 200, '"outcome":"completed"')
    },
  }
}

/** One request an effect, as a library inside a worker's own service has it. The answer is the effect's result. */
export function libraryCall({ path }, numberOf = (number) => number, status = 201) {
  return {
    effects: 1,
    timed: 'call',
    async unit({ ask }, number) {
      const entity = entityOf(numberOf(number))
      const request = post(path, `{"entity":"${entity}","owner":"bench"}`, `Idempotency-Key: ${entity}\r\n`)
      expect(await ask('call', request), status, resultOf(entity))
    },
  }
}
