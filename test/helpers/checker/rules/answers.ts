/** The store's troubles are 503s: a 500 is a fault of the service. */
import type { EffectHistory } from '../history.ts'

export const noInternalErrors = ({ calls }: EffectHistory): string[] =>
  calls.filter(({ told }) => told.status === 500).map(({ f }) => `a ${f} was answered with 500`)
