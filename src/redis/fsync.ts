/** Whether what Redis answers is on its disk by then: one reading of its settings, for all who must know. */

const names = ['appendfsync', 'no-appendfsync-on-rewrite', 'save'] as const

export type FileSettings = Record<(typeof names)[number], string>

/** CONFIG GET takes several names from Redis 7.0 on. */
export const askFileSettings = ['CONFIG', 'GET', ...names] as const

/** Redis gives them in an order of its own. Undefined where it does not tell all of them. */
export function parseFileSettings(reply: unknown): FileSettings | undefined {
  const words = reply as string[]
  const told = new Map(words.flatMap((word, at) => (at % 2 === 0 ? [[word, words[at + 1]] as const] : [])))
  if (names.some((name) => told.get(name) === undefined)) return undefined
  return Object.fromEntries(told) as FileSettings
}

/**
 * The rule by which the append-only file is fsynced at the worst. Under `no-appendfsync-on-rewrite yes` that is `no`, also with
 * `always`: as long as a child saves or rewrites, Redis fsyncs nothing. Source: flushAppendOnlyFile in its aof.c.
 */
export const fsyncRule = (settings: FileSettings): string =>
  settings['no-appendfsync-on-rewrite'] === 'no' ? settings.appendfsync : 'no'

/** Whether an answer leaves Redis behind the fsync of what it tells; where that is not told, it is not known to. */
export function fsyncsFirst(reply: unknown): boolean {
  const settings = parseFileSettings(reply)
  return settings !== undefined && fsyncRule(settings) === 'always'
}
