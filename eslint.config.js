import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

/** tap's promises end with their test: nobody needs to wait for them. */
const tapPromises = { from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }

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
    files: ['src/**/*.ts', 'routes/**/*.ts'],
    rules: { 'max-lines-per-function': ['error', { max: 60 }] },
  },
)
