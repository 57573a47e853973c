/** The six operations that change an effect: what each takes, and how it is answered, alone or in a batch. */
import type { z } from 'zod'
import { actorOf, allows, type Principal } from '../src/auth.ts'
import type { EffectName } from '../src/effects/context.ts'
import type { Effects } from '../src/effects/effects.ts'
import * as schema from '../src/effects/schema.ts'
import type { Caller } from '../src/effects/waiting.ts'
import type { Answered } from '../src/http/operation.ts'

export type EffectOperation<Body extends EffectName = EffectName> = {
  body: z.ZodType<Body>
  /** `caller`: who waits where the body asks for that; nobody does in a batch. */
  answer(principal: Principal, body: Body, caller?: Caller): Promise<Answered>
}

const operation = <Body extends EffectName>(
  body: z.ZodType<Body>,
  answer: EffectOperation<Body>['answer'],
): EffectOperation<Body> => ({ body, answer })

export const effectOperations = (effects: Effects) => ({
  claim: operation(schema.claimBody, async ({ namespace }, body, caller) => {
    const { granted, body: answer } = await effects.claim(namespace, body, caller)
    return { status: granted ? 201 : 200, body: answer }
  }),
  complete: operation(schema.completeBody, async (principal, body) => {
    const actor = actorOf(principal, undefined)
    return { status: 200, body: await effects.complete(principal.namespace, body, actor) }
  }),
  fail: operation(schema.failBody, async (principal, body) => {
    const actor = actorOf(principal, undefined)
    return { status: 200, body: await effects.fail(principal.namespace, body, actor) }
  }),
  release: operation(schema.releaseBody, async ({ namespace }, body) => ({
    status: 200,
    body: await effects.release(namespace, body),
  })),
  renew: operation(schema.renewBody, async (principal, body) => {
    const actor = actorOf(principal, undefined)
    return { status: 200, body: await effects.renew(principal.namespace, body, actor) }
  }),
  /** A worker needs evidence, and settles an uncertain effect only. */
  resolve: operation(schema.resolveOperation, async (principal, { user, ...body }) => {
    const byWorker = !allows(principal.role, 'operator')
    const actor = actorOf(principal, user)
    return { status: 200, body: await effects.resolve(principal.namespace, body, actor, byWorker) }
  }),
})

export type EffectOperations = ReturnType<typeof effectOperations>
