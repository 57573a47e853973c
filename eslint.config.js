import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

/** tap's promises end with their test: nobody needs to wait for them. */
const tapPromises = { from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }

const unsafe = ['argument', 'assignment', 'call', 'member-access', 'return']

export default defineConfig(
  { ignores: ['dist/', 'data/', 'logs/', '.tap/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  { rules: { eqeqeq: 'error', 'no-console': 'error', 'prefer-const': 'error' } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafePromises: [tapPromises] }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      // `const { dropped: _dropped, ...rest } = record` is how a member is left out.
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // An async function without await still turns what it throws into a rejection: handlers and tests rely on it.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    // Tests look at answers of every shape, and say in their assertions what they expect of them.
    files: ['test/**/*.ts'],
    rules: {
      ...Object.fromEntries(unsafe.map((of) => [`@typescript-eslint/no-unsafe-${of}`, 'off'])),
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    files: ['src/**/*.ts', 'routes/**/*.ts'],
    rules: { 'max-lines-per-function': ['error', { max: 60 }] },
  },
)
