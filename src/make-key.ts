/** `npm run make-key -- <name> <role> <namespace>`: prints a new API key and its entry for the configuration file. */
import { createHash, randomBytes } from 'node:crypto'
import { stringify } from 'yaml'
import { roles } from './auth.ts'
import { keyName, namespaceName } from './config/schema.ts'

const usage = `usage: npm run make-key -- <name> <role> <namespace>
  name       who the key is for: 1-128 printable ASCII characters without spaces
  role       ${roles.join(' | ')}
  namespace  a lower case letter or digit, then up to 62 of a-z, 0-9, _ and -
`

/** `eo_` and 32 random bytes in base64url: 46 characters, recognised by secret scanners by the prefix. */
const newKey = (): string => `eo_${randomBytes(32).toString('base64url')}`

function main(parameters: string[]): number {
  const [name, role, namespace] = parameters
  const isValid =
    parameters.length === 3 &&
    keyName.safeParse(name).success &&
    roles.some((word) => word === role) &&
    namespaceName.safeParse(namespace).success
  if (!isValid) {
    process.stderr.write(usage)
    return 2
  }
  const key = newKey()
  const sha256 = createHash('sha256').update(key).digest('hex')
  const entry = stringify({ auth: { keys: [{ name, sha256, role, namespace }] } })
  process.stdout.write(`# The key, shown only this once:\n${key}\n\n# Its entry for the configuration file:\n${entry}`)
  return 0
}

process.exitCode = main(process.argv.slice(2))
