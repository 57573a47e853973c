/**
 * Imports run one way: main -> app -> routes -> src/<concept> -> src/redis. What one concept needs of another is passed
 * in by src/services.ts; it may import the other's types. Events and the shared files at the top of src/ are everyone's.
 */
const concepts = '^src/(effects|breakers|failures|retries|audit)/'
const composers = ['^src/main[.]ts$', '^src/serve[.]ts$', '^src/app[.]ts$', '^src/services[.]ts$']

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'Files that need each other are one file, or lack a third.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'unresolvable',
      comment:
        'An import that leads nowhere. The peers of the benchmark have packages of their own, installed when it runs.',
      severity: 'error',
      from: { pathNot: '^bench/peers/' },
      to: { couldNotResolve: true },
    },
    {
      name: 'undeclared-package',
      comment: 'A package that package.json does not list for use at run time.',
      severity: 'error',
      from: { path: '^(src|routes)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'ioredis-in-redis-only',
      comment:
        'src/redis/ is the only place that knows the client library; a peer of the benchmark is another program.',
      severity: 'error',
      from: { pathNot: '^(src/redis|bench/peers)/' },
      to: { path: '(^|/)node_modules/ioredis/' },
    },
    {
      name: 'app-imports-routes',
      comment: 'src/app.ts is the only file of src/ that knows the routes.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/app[.]ts$' },
      to: { path: '^routes/' },
    },
    {
      name: 'nothing-imports-main',
      comment: 'The process starts there; nothing stands above it.',
      severity: 'error',
      from: {},
      to: { path: '^src/main[.]ts$' },
    },
    {
      name: 'composers-are-not-used-below',
      comment: 'Routes and concepts receive what they need. Its type may be imported.',
      severity: 'error',
      from: { path: '^(src|routes)/', pathNot: composers },
      to: { path: ['^src/serve[.]ts$', '^src/app[.]ts$', '^src/services[.]ts$'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'routes-do-not-touch-the-store',
      comment: 'A handler translates; the concept talks to Redis.',
      severity: 'error',
      from: { path: '^routes/' },
      to: { path: ['^src/redis/', '^src/config[.]ts$'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'route-modules-are-apart',
      comment: 'Only routes/index.ts knows the others.',
      severity: 'error',
      from: { path: '^routes/', pathNot: '^routes/index[.]ts$' },
      to: { path: '^routes/(effects|breakers|retries|failures|audit|events|system|index)[.]ts$' },
    },
    {
      name: 'concepts-are-apart',
      comment: 'One concept never runs the code of another, except src/retries/decide.ts, which reads three.',
      severity: 'error',
      from: { path: concepts, pathNot: '^src/retries/decide[.]ts$' },
      to: { path: concepts, pathNot: '^src/$1/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'decide-reads-three',
      comment: 'The decision reads breakers, failures and effects, and nothing else of its kind.',
      severity: 'error',
      from: { path: '^src/retries/decide[.]ts$' },
      to: { path: concepts, pathNot: '^src/(retries|breakers|failures|effects)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'events-know-no-concept',
      comment: 'Everyone may import events, so events import no one.',
      severity: 'error',
      from: { path: '^src/events/' },
      to: { path: concepts, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'redis-is-the-bottom',
      comment: 'The store knows bounds, problems and configuration, and no concept.',
      severity: 'error',
      from: { path: '^src/redis/' },
      to: { path: [concepts, '^src/events/', '^src/auth[.]ts$'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'shared-files-know-no-concept',
      comment: 'Bounds, problems, configuration, access and observability stand below the concepts.',
      severity: 'error',
      from: { path: ['^src/[^/]+[.]ts$', '^src/observability/'], pathNot: composers },
      to: { path: [concepts, '^src/events/'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'product-does-not-import-tests-or-tools',
      severity: 'error',
      from: { path: '^(src|routes)/' },
      to: { path: '^(test|scripts|bench|dist)/' },
    },
    {
      name: 'nothing-imports-the-build',
      severity: 'error',
      from: {},
      to: { path: '^dist/' },
    },
    {
      name: 'tests-are-not-imported',
      comment: 'What tests share stands in test/helpers/.',
      severity: 'error',
      from: {},
      to: { path: '[.]test[.]ts$' },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
}
