import t from 'tap'
import { Problem } from '../../src/problems.ts'
t.test('x', async (t) => { t.throws(() => { throw new Problem('not-found', 'x') }) })
