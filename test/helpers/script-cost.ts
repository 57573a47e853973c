/** What a script costs Redis, beside a known piece of Lua in the same rounds: a figure that a busy machine does not move. */
import type { Reply } from './redis-server.ts'

type Cli = (...args: (string | number)[]) => Promise<Reply>

/** So many steps take Redis 7.0 one millisecond on the machine on which the limits were measured. */
const stepsOfOneMillisecond = 50_000
const baseline = `local x = 0; for i = 1, ${stepsOfOneMillisecond} do x = (x * 31 + i) % 65521 end; return x`

/** Microseconds a call of EVAL or EVALSHA took since the last CONFIG RESETSTAT. */
async function spentUs(cli: Cli, name: 'eval' | 'evalsha'): Promise<number> {
  const stats = String(await cli('INFO', 'commandstats'))
  const [, calls, us] = new RegExp(`cmdstat_${name}:calls=(\\d+),usec=(\\d+)`).exec(stats) ?? []
  return Number(us) / Number(calls)
}

/**
 * How many such milliseconds `command`'s scripts take, one call of them: the fastest of each over `rounds` (default 25), in
 * turn. NaN, which is below nothing, where it ran no script that Redis knew.
 */
export async function scriptCost(cli: Cli, command: (round: number) => Promise<unknown>, rounds = 25): Promise<number> {
  const beside: number[] = []
  const own: number[] = []
  for (let round = 0; round < rounds; round++) {
    await cli('CONFIG', 'RESETSTAT')
    await cli('EVAL', baseline, 0)
    beside.push(await spentUs(cli, 'eval'))
    await command(round)
    own.push(await spentUs(cli, 'evalsha'))
  }
  return Math.min(...own) / Math.min(...beside)
}
