declare module 'cluster-key-slot' {
  /** Slot (0–16383) of a key. Source: Redis Cluster specification, "Key distribution model". */
  export default function slotOf(key: string): number
}
