/**
 * This process's view of the breakers, so that a claim meets its breaker without a round trip: exact for what this
 * process did, at most `limits.breakerViewAgeMaxMs` old for what others did, read afresh for a job type not yet seen.
 * One read of what has changed serves all job types of a namespace, and none is made for a namespace that is not used.
 */
import { limits } from '../limits.ts'
import type { Problem } from '../problems.ts'
import type { Store } from '../redis/client.ts'
import { storeUnavailable } from '../redis/refusals.ts'
import type { Keys } from '../redis/keys.ts'
import { breakerList, type BreakerPage, type BreakerRecord, unknownBreaker } from './scripts.ts'

type NamespaceView = {
  records: Map<string, BreakerRecord>
  /** Up to here all changes were read; null before the first read. */
  readTo: number | null
  /** The newest change of all that was seen: where the store no longer has it, it has lost changes. */
  newest: BreakerPage['top']
  /** When the last good read was sent, and when somebody last asked; milliseconds of the process's clock. */
  readAtMs: number
  usedAtMs: number
  reading: Promise<void> | null
}

type Dependencies = { store: Store; keys: Keys }

const newView = (): NamespaceView => ({
  ...{ records: new Map(), readTo: null, newest: { seq: 0, jobType: '' } },
  ...{ readAtMs: -Infinity, usedAtMs: -Infinity, reading: null },
})

const elapsedMs = (sinceMs: number): number => performance.now() - sinceMs
const stale = (view: NamespaceView): boolean => elapsedMs(view.readAtMs) >= limits.breakerViewAgeMaxMs

/** Redis has answered, twice, and each time so late that others may have changed the breaker since. */
const tooOld = (): Problem => storeUnavailable('busy', 'Redis took too long to tell how the breakers are.')

/** Keeps a breaker; replies come in the order in which their scripts ran. */
function keep(view: NamespaceView, jobType: string, record: BreakerRecord): void {
  const { records } = view
  const oldest = records.size >= limits.breakerViewJobTypesMax ? records.keys().next().value : undefined
  if (oldest !== undefined && !records.has(jobType)) records.delete(oldest)
  records.set(jobType, record)
  if (record.seq > view.newest.seq) view.newest = { seq: record.seq, jobType }
}

async function readChanges({ store, keys }: Dependencies, namespace: string, view: NamespaceView): Promise<void> {
  const sentAtMs = performance.now()
  const page = await store.run(breakerList, [keys.breakerIndex(namespace)], {
    prefix: keys.breaker(namespace, '')[0] ?? '',
    after: view.readTo ?? 0,
    seen_job_type: view.newest.jobType,
    seen_seq: view.newest.seq,
    count: limits.breakerChangesMax,
  })
  // Where the changes are not all known, every job type is read afresh when somebody asks for it.
  const whole = view.readTo !== null && !page.lost && page.entries.length < limits.breakerChangesMax
  if (!whole) view.records.clear()
  for (const { jobType, record } of page.entries) {
    if (view.records.has(jobType)) keep(view, jobType, record ?? unknownBreaker)
  }
  if (page.lost || page.top.seq > view.newest.seq) view.newest = page.top
  view.readTo = page.top.seq
  view.readAtMs = sentAtMs
}

/** Callers at the same time share one read. */
function refresh(dependencies: Dependencies, namespace: string, view: NamespaceView): Promise<void> {
  view.reading ??= readChanges(dependencies, namespace, view).finally(() => (view.reading = null))
  return view.reading
}

/** `read` reads one breaker afresh. */
export function createView(
  dependencies: Dependencies,
  read: (namespace: string, jobType: string) => Promise<BreakerRecord>,
) {
  const namespaces = new Map<string, NamespaceView>()
  let timer: NodeJS.Timeout | undefined

  function viewOf(namespace: string): NamespaceView {
    const view = namespaces.get(namespace) ?? newView()
    namespaces.set(namespace, view)
    return view
  }

  /** The breaker, not settled; Problem `store-unavailable` if Redis cannot be asked in time. */
  async function known(namespace: string, jobType: string): Promise<BreakerRecord> {
    const view = viewOf(namespace)
    view.usedAtMs = performance.now()
    // A read that was under way already may be too old when it is answered; the next one is not.
    if (stale(view)) await refresh(dependencies, namespace, view)
    if (stale(view)) await refresh(dependencies, namespace, view)
    if (stale(view)) throw tooOld()
    return view.records.get(jobType) ?? read(namespace, jobType)
  }

  function refreshUsed(): void {
    for (const [namespace, view] of namespaces) {
      if (elapsedMs(view.usedAtMs) >= limits.breakerViewUnusedMs) continue
      // Trouble is counted by the store, and shows itself to whoever needs the view.
      refresh(dependencies, namespace, view).catch(() => undefined)
    }
  }

  async function stop(): Promise<void> {
    clearInterval(timer)
    await Promise.allSettled([...namespaces.values()].flatMap(({ reading }) => reading ?? []))
  }

  return {
    known,
    /** Keeps what a script has just answered. */
    learn: (namespace: string, jobType: string, record: BreakerRecord) => keep(viewOf(namespace), jobType, record),
    start: (): void => void (timer = setInterval(refreshUsed, limits.breakerViewRefreshMs)),
    stop,
  }
}
