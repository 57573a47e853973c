/** The short form of `npm run soak`: real processes, killed at random, and an exchange that says whether anything ran twice. */
import t from 'tap'
import { soak } from '../helpers/crew/soak.ts'

t.test('workers, services and Redis are killed at random, and no order is carried out twice silently', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.comment(`seed ${seed}`)
  const say = (line: string) => t.comment(line)
  const result = await soak({ topology: 'standalone', seconds: 18, seed, orders: 4000, tellEverySeconds: 6, say })
  const { violations, orders, carriedOut, doubles, events, checks } = result
  t.same(violations.slice(0, 5), [])
  t.comment(
    `${orders} orders, ${carriedOut} carried out, ${doubles} twice and flagged; ${events} events, ${checks} checks`,
  )
  t.ok(orders > 200, `${orders} orders`)
})
