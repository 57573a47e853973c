/** The type of the whole configuration. */
import type { ApiKey } from '../auth.ts'
import type { ServerConfig } from './environment.ts'
import type { FileConfig } from './schema.ts'
import type { RedisConfig } from './secrets.ts'

type Frozen<T> = T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T

/** The file's members with all defaults filled in, and `server` from the environment. Deeply frozen. */
export type Config = Frozen<
  Pick<FileConfig, 'effects' | 'retry' | 'audit' | 'failures'> & {
    redis: RedisConfig
    auth: { keys: ApiKey[]; metrics_anonymous: boolean }
    server: ServerConfig
  }
>
