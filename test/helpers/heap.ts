/** What the memory of this process holds. */
import { queryObjects } from 'node:v8'

/** How many promises are held, after a full collection of garbage: what a call leaves behind shows here if it is repeated. */
export const promisesHeld = (): number => queryObjects(Promise, { format: 'count' })
