/** Bounds on the processor time of single processes, by control groups of the kernel: version 1, which takes root. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const hierarchy = '/sys/fs/cgroup/cpu'
/** Short, so that whoever has used up a share goes on soon. */
const periodMicroseconds = 10_000

/** From now on the process may take `share` of one processor. Answers what to call when it has ended. */
export function boundProcessor(pid, share) {
  if (!existsSync(path.join(hierarchy, 'cpu.cfs_quota_us')))
    throw new Error(`no bounds on processor time can be set here: ${hierarchy} is not there`)
  const group = path.join(hierarchy, `effectonce-bench-${pid}`)
  mkdirSync(group)
  const set = (name, value) => writeFileSync(path.join(group, name), String(Math.round(value)))
  set('cpu.cfs_period_us', periodMicroseconds)
  set('cpu.cfs_quota_us', periodMicroseconds * share)
  set('cgroup.procs', pid)
  return () => rmdirSync(group)
}
