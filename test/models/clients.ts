/** Several clients of a model, each of which makes its calls one after the other. */
import type fc from 'fast-check'

/** `clients`: each one's calls so far. */
type Clients<Plan> = { act: (plan: Plan) => Promise<void>; clients: Promise<void>[] }

/** One client's next call; the other clients go on meanwhile. */
export class Send<Plan> implements fc.AsyncCommand<object, Clients<Plan>> {
  readonly client: number
  readonly plan: Plan
  constructor(client: number, plan: Plan) {
    this.client = client
    this.plan = plan
  }
  check = () => true
  toString = () => `${this.client}: ${JSON.stringify(this.plan)}`
  async run(_: object, { clients, act }: Clients<Plan>): Promise<void> {
    const at = this.client % clients.length
    clients[at] = (clients[at] as Promise<void>).then(() => act(this.plan))
  }
}
