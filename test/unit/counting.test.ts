/** The sum of what several processes count: whom it waits for, and what the asking leaves behind. */
import t from 'tap'
import type { CountedMetrics } from '../../src/observability/metrics.ts'
import { createCounting } from '../../src/processes/counting.ts'
import type { Member } from '../../src/processes/member.ts'
import { promisesHeld } from '../helpers/heap.ts'

const counted = (value: number) =>
  [
    { name: 'calls', help: 'c', type: 'counter', aggregator: 'sum', values: [{ value, labels: {} }] },
    { name: 'waiting', help: 'w', type: 'gauge', aggregator: 'sum', values: [{ value, labels: {} }] },
  ] as unknown as CountedMetrics

/** One that lives until the test ends. `asked` may answer. */
function memberOf(id: number, asked: (member: Member, question: number) => void): Member {
  const member = { id, exited: new Promise(() => undefined) } as unknown as Member
  member.tell = (message) => void (message.type === 'count' && asked(member, message.question))
  return member
}

t.test('a scrape leaves nothing behind while the processes live', async (t) => {
  const counting = createCounting()
  const answer = (member: Member, question: number) => counting.keep(member, counted(1), question)
  const members = [memberOf(1, answer), memberOf(2, answer)]
  t.match(await counting.text(members), /^calls 2$/m)
  const before = promisesHeld()
  for (let scrape = 0; scrape < 500; scrape++) await counting.text(members)
  const more = promisesHeld() - before
  t.ok(more < 50, `${more} promises more after 500 scrapes`)
})

t.test('one that ends while it is asked keeps nobody waiting, and what it counted stays in the sum', async (t) => {
  const counting = createCounting()
  const dying = memberOf(1, () => setImmediate(counting.end, dying))
  const silent = memberOf(2, () => undefined)
  for (const member of [dying, silent]) counting.keep(member, counted(3))
  const answered: string[] = []
  const ask = async (name: string, members: Member[]) => {
    const text = await counting.text(members)
    answered.push(name)
    return text
  }
  const [late, soon] = await Promise.all([ask('silent', [silent]), ask('dying', [dying])])
  t.same(answered, ['dying', 'silent'])
  t.match(soon, /^calls 6\n[^]*^waiting 3$/m)
  t.match(late, /^calls 6\n/m, 'who does not answer is counted as when it was last heard of')
  t.notMatch(late, /^waiting/m, 'and is not said to have anything now')
})
