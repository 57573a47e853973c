/** What every contender stores of an effect: the same bytes, so that their records and answers can be compared. */

const resultBytes = 200
const filler = 'x'.repeat(resultBytes)

/** JSON text of 200 bytes that names its entity, so that the answer of another effect is noticed. */
export function resultOf(entity) {
  const start = `{"order":"${entity}","fill":"`
  return `${start}${filler.slice(0, resultBytes - start.length - 2)}"}`
}
