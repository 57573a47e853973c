/** The contenders in turns: A B C, A B C, …, so that a slow minute of the machine is everybody's. */
import { closedLoad } from '../load.mjs'

/**
 * Answers {<name>: {windows: one flat record a round, an empty one where it failed, trouble: the last failure}}. The first
 * round warms the programs up and is not kept.
 */
export async function runRounds(chosen, { pool, options, late, say }) {
  const entries = chosen.map((contender) => ({ contender, windows: [], trouble: null, failures: 0, scenario: null }))
  for (let round = 0; round <= options.rounds; round++) {
    for (const entry of entries) {
      if (entry.failures >= failuresMax) continue
      if (late() && round > 0)
        return result(entries, `only ${round - 1} of ${options.rounds} rounds: time was over`, say)
      await takeTurn(entry, round, { pool, say, options: turnOf(round, options) })
    }
    say(`  round ${round} of ${options.rounds}${round === 0 ? ' (not kept)' : ''}`)
  }
  return result(entries)
}

function result(entries, shortened, say) {
  if (shortened !== undefined) say(`  ${shortened}`)
  return Object.fromEntries(entries.map(({ contender, windows, trouble }) => [contender.name, { windows, trouble }]))
}

/** A contender that fails so often has no further turn; the others go on. */
const failuresMax = 2

async function takeTurn(entry, round, context) {
  try {
    const figures = await (entry.contender.raw ? rawTurn : httpTurn)(entry, context)
    if (round > 0) entry.windows.push(figures)
  } catch (error) {
    entry.failures++
    if (round > 0) entry.windows.push({})
    entry.trouble = `round ${round}: ${error.message.slice(0, 300)}`
    context.say(`  ${entry.contender.name}: ${entry.trouble}`)
  }
}

/** The first round is there to warm up. */
const firstRoundShare = 0.3

const turnOf = (round, options) => ({ ...options, seconds: options.seconds * (round === 0 ? firstRoundShare : 1) })

async function httpTurn(entry, { pool, options }) {
  const { contender } = entry
  const target = await pool.get(contender.deployment)
  entry.scenario ??= await contender.scenario(target)
  return closedLoad(target, entry.scenario, options)
}

async function rawTurn({ contender }, { pool, options }) {
  const raw = await pool.get(contender.name, contender.raw)
  return raw.run(options.seconds)
}
