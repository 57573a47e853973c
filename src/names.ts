/** What names look like, wherever they come from: requests, keys of the store, the configuration file. */
import { limits } from './limits.ts'

/** A letter or digit first, so that no namespace begins with the `_` of what belongs to none. */
export const namespacePattern = new RegExp(`^[a-z0-9][a-z0-9_-]{0,${limits.namespaceCharsMax - 1}}$`)

const effectType = `[a-z][a-z0-9_]{0,${limits.effectTypeCharsMax - 1}}`
export const effectTypePattern = new RegExp(`^${effectType}$`)
/** `<type>.<64 hex digits>`, of a SHA-256. */
export const effectIdPattern = new RegExp(`^${effectType}\\.[0-9a-f]{64}$`)

export const jobTypePattern = new RegExp(`^[A-Za-z][A-Za-z0-9_.:-]{0,${limits.jobTypeCharsMax - 1}}$`)
/** No job type: `/jobs/metrics/prometheus` are the metrics of all of them. */
export const reservedJobType = 'prometheus'
