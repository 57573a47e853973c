/** Everything that the service tells the world about, one closed union; whoever listens can never fail a request. */
import type { Level, Logger } from 'pino'

type EffectEvent =
  | { event: 'effect.uncertain'; owner: string; attempt: number; cause: string }
  | { event: 'effect.reclaimed'; owner: string; attempt: number }
  | { event: 'effect.late_completion'; fencing_token: number; call: string }
  | { event: 'effect.record_recovered'; fencing_token: number; call: string }
  | { event: 'effect.resolved'; resolution: string; user: string }
  | { event: 'effect.deleted'; user: string }

export type BreakerEventName = `breaker.${'opened' | 'half_opened' | 'closed' | 'overridden' | 'would_block'}`
type BreakerEvent = { event: BreakerEventName; job_type: string }

/** Of the store as a whole: every namespace hears of it. */
type StoreEvent =
  | { event: 'memory.budget'; used_bytes: number; budget_bytes: number; percent: number }
  | { event: 'store.trouble'; reason: string }
  | { event: 'store.recovered'; silent_seconds: number }
  | { event: 'store.changed'; node: string; change: string; changed_at: string; detail: string }
  | { event: 'store.reset'; node: string; changed_at?: string; detail: string; acknowledge_needed: boolean }
  | { event: 'store.clock_stepped'; node: string; step_seconds: number }

/**
 * One event. Members beside these are facts about it, such as `failure_count` of a breaker. It happens when it is
 * emitted; the stream keeps the instant by Redis's clock.
 */
export type ServiceEvent =
  | (EffectEvent & { namespace: string; effect_id: string })
  | (BreakerEvent & { namespace: string; [fact: string]: unknown })
  | StoreEvent

export type EventName = ServiceEvent['event']

/** `recorded`: the script that made the change has written the event into the stream already. Must not block. */
export type Listener = (event: ServiceEvent, recorded: boolean) => void

/** Hands each event to every listener; a listener that throws is logged and forgotten. */
export function createEvents(log: Logger) {
  const listeners = new Set<Listener>()

  function hand(event: ServiceEvent, recorded: boolean): void {
    for (const listener of listeners) {
      try {
        listener(event, recorded)
      } catch (error) {
        log.error({ err: error, event: event.event }, 'a listener failed')
      }
    }
  }

  return {
    subscribe(listener: Listener): () => void {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    /** Tells listeners, and writes the event into the stream a moment later. Never fails, never waits. */
    emit: (event: ServiceEvent): void => hand(event, false),
    /** Tells listeners of an event that a script has written into the stream. */
    tell: (event: ServiceEvent): void => hand(event, true),
  }
}

export type Events = ReturnType<typeof createEvents>

/** What a person must look at; the others are logged at `info`. */
const levels: Partial<Record<EventName, Level>> = {
  'breaker.opened': 'fatal',
  'effect.late_completion': 'error',
  'effect.record_recovered': 'warn',
  'effect.uncertain': 'warn',
  'memory.budget': 'warn',
  'store.changed': 'warn',
  'store.clock_stepped': 'error',
  'store.reset': 'error',
  'store.trouble': 'error',
}

/** Logs every event, an opened circuit at `fatal`. */
export function logEvents(events: Events, log: Logger): void {
  events.subscribe((event) => log[levels[event.event] ?? 'info'](event, event.event))
}
