/** What a process knows of those behind the same port, itself among them. */
import type { Registry } from 'prom-client'

export type Fellows = {
  /** How many take calls. */
  serving: () => number
  /** How many have ended without being told to since the service started. */
  lost: () => number
  /** Of the service, which outlives its processes. */
  uptimeSeconds: () => number
  /** In Prometheus's text, what all of them have counted; `own` is what this one has. */
  counted: (own: Registry) => Promise<string>
}

/** A process that is alone behind its port. */
export const alone: Fellows = {
  serving: () => 1,
  lost: () => 0,
  uptimeSeconds: () => process.uptime(),
  counted: (own) => own.metrics(),
}
