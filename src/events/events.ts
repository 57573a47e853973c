/** Everything that the service tells the world about, one closed union; whoever listens can never fail a request. */
import type { Logger } from 'pino'

export type ServiceEvent =
  | { event: 'effect.uncertain'; namespace: string; effect_id: string; owner: string; attempt: number; cause: string }
  | { event: 'effect.reclaimed'; namespace: string; effect_id: string; owner: string; attempt: number }
  | { event: 'effect.late_completion'; namespace: string; effect_id: string; fencing_token: number; call: string }
  | { event: 'effect.resolved'; namespace: string; effect_id: string; resolution: string; user: string }
  | { event: 'effect.deleted'; namespace: string; effect_id: string; user: string }
  | { event: 'memory.budget'; used_bytes: number; budget_bytes: number; percent: number }
  | { event: 'store.trouble'; reason: string }
  | { event: 'store.recovered'; silent_seconds: number }

export type Listener = (event: ServiceEvent) => void

/** Hands each event to every listener; a listener that throws is logged and forgotten. */
export function createEvents(log: Logger) {
  const listeners = new Set<Listener>()
  return {
    subscribe(listener: Listener): () => void {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    emit(event: ServiceEvent): void {
      for (const listener of listeners) {
        try {
          listener(event)
        } catch (error) {
          log.error({ err: error, event: event.event }, 'a listener failed')
        }
      }
    },
  }
}

export type Events = ReturnType<typeof createEvents>
