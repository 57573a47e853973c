/** Medians and percentiles; a figure is never shown without its spread. */

/** The value below which the share `q` (0–1) of the sorted values lies; NaN when there is none. */
export function percentile(sorted, q) {
  if (sorted.length === 0) return NaN
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]
}

export const sorted = (values) => Float64Array.from(values).sort()

/** The median of a few rounds, with the least and the greatest. Rounds without a value are left out. */
export function spread(values) {
  const known = values.filter(Number.isFinite).toSorted((a, b) => a - b)
  if (known.length === 0) return { median: NaN, least: NaN, most: NaN, rounds: 0 }
  const middle = known.length / 2
  const median = known.length % 2 === 1 ? known[Math.floor(middle)] : (known[middle - 1] + known[middle]) / 2
  return { median, least: known[0], most: known.at(-1), rounds: known.length }
}

/** The spread of each member over a list of flat records. */
export function spreadOfAll(records) {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))]
  return Object.fromEntries(names.map((name) => [name, spread(records.map((record) => record[name] ?? NaN))]))
}
