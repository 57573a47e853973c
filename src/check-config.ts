/** `npm run check-config -- <file>`: prints the effective configuration as YAML with secrets masked, or every fault. */
import { stringify } from 'yaml'
import { ConfigError, loadConfig, maskSecrets } from './config.ts'

function main([file, ...rest]: string[]): number {
  if (rest.length > 0 || file?.startsWith('-')) {
    process.stderr.write('usage: npm run check-config -- <file>   (without a file: CONFIG_FILE, else the defaults)\n')
    return 2
  }
  try {
    const { server, ...settings } = maskSecrets(loadConfig(undefined, file))
    const environment = stringify(server).trimEnd().replaceAll(/^/gm, '#   ')
    process.stdout.write(`# From the environment:\n${environment}\n${stringify(settings)}`)
    return 0
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
}

process.exitCode = main(process.argv.slice(2))
