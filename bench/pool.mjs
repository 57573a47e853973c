/** What has been started in this run, each once, and ended at its end, however it ends. */
export class Pool {
  #starters
  #started = new Map()

  /** `starters`: functions that start a deployment, by its name. */
  constructor(starters) {
    this.#starters = starters
  }

  /** The deployment of that name; the same failure for everybody who asks for one that did not start. */
  get(name, start = this.#starters[name]) {
    if (!this.#started.has(name)) {
      const starting = start()
      starting.catch(() => undefined)
      this.#started.set(name, starting)
    }
    return this.#started.get(name)
  }

  async stop() {
    const all = [...this.#started.values()]
    this.#started.clear()
    const stopOne = async (starting) => (await starting).stop()
    await Promise.allSettled(all.map(stopOne))
  }
}

/** Starts, uses and ends one. */
export async function using(start, use) {
  const deployment = await start()
  try {
    return await use(deployment)
  } finally {
    await deployment.stop()
  }
}
