/**
 * A process that owns a private server, as the service does: `private-server-owner.ts <dataDir>`. It prints the path of
 * the socket and lives until it is killed.
 */
import { startPrivateServer } from '../../src/redis/private-server.ts'

const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
const server = await startPrivateServer({ dataDir: process.argv[2]!, log })
process.stdout.write(`${server.socketPath}\n`)
