/** A service of Restate with one durable step: what it did is in Restate's log before the answer goes out. */
import * as restate from '@restatedev/restate-sdk'
import http2 from 'node:http2'
import { resultOf } from '../result.mjs'
import { port } from './listen.mjs'

/** The SDK needs one function of Node 22: without it a call hangs on Node 20. */
Promise.withResolvers ??= () => {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const effects = restate.service({
  name: 'effects',
  handlers: {
    execute: async (context, { entity }) => context.run('effect', () => JSON.parse(resultOf(entity))),
  },
})
const endpoint = restate.endpoint().bind(effects)
endpoint.setLogger(() => undefined)
http2.createServer(endpoint.http2Handler()).listen(port, '127.0.0.1')
