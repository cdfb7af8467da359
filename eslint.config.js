import js from '@eslint/js';
import boundaries from 'eslint-plugin-boundaries';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** The layers of the project: name, files, and the layers it may import from. Imports point downward only. */
const layers = [
  ['contract', 'src/api/contract/**', []],
  ['onnx', 'src/onnx/**', []],
  ['kernels', 'src/kernels/**', ['onnx']],
  ['models', 'src/models/**', ['contract']],
  ['checkpoints', 'src/checkpoints/*', ['contract', 'models']],
  // Node's own; nothing that a browser loads may import it
  ['folder', 'src/checkpoints/node/**', ['contract', 'checkpoints']],
  ['export', 'src/export/**', ['contract', 'onnx', 'models']],
  ['engine', 'src/engine/**', ['contract', 'onnx', 'kernels', 'models', 'checkpoints', 'export']],
  // two devices side by side
  ['conformance', 'src/conformance/**', ['contract', 'kernels', 'models', 'engine']],
  // the one file of the clients that starts an engine
  ['door', 'src/api/local-backend.ts', ['contract', 'api', 'engine']],
  ['api', ['src/api/!(local-backend).ts', 'src/api/!(contract)/**'], ['contract', 'door']],
  // the engine in a worker thread
  ['node', 'src/node/**', ['contract', 'models', 'checkpoints', 'folder', 'engine']],
  ['entry', 'src/*.ts', ['contract', 'api', 'door', 'node', 'conformance']],
  ['users', ['demo/**', 'examples/**'], ['entry']],
];

/** May look anywhere: they check and measure the layers themselves. */
const outside = ['test/**', 'bench/**', 'tools/**', 'scripts/**', '*.config.*'];

/** May use `node:*`; nothing that a browser loads imports them. */
const NODE_ONLY = [
  'src/node.ts',
  'src/node/**',
  'src/checkpoints/node/**',
  'src/engine/devices/onnx/native.ts',
];

export default defineConfig(
  globalIgnores([
    'dist',
    'dist-demo',
    'test-artifacts',
    'coverage',
    'models',
    '.cache',
    '.venv',
    // generated
    'src/onnx/onnx_pb.ts',
  ]),
  js.configs.recommended,
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      // an async function that awaits nothing still turns a throw into a rejection
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // numbers in messages are the normal case here
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      eqeqeq: ['error', 'always'],
    },
  },
  {
    files: ['src/**', 'demo/**', 'examples/**'],
    plugins: { boundaries },
    settings: {
      'import/resolver': { node: { extensions: ['.ts', '.js'] } },
      'boundaries/dependency-nodes': ['import', 'dynamic-import', 'export'],
      'boundaries/files': [
        ...layers.map(([category, pattern]) => ({ category, pattern })),
        { category: 'outside', pattern: outside },
      ],
    },
    rules: {
      'boundaries/no-unknown-files': 'error',
      'boundaries/dependencies': [
        'error',
        {
          default: 'allow',
          policies: [
            {
              disallow: {
                to: { file: { categories: { anyOf: ['outside', ...layers.map(([name]) => name)] } } },
              },
            },
            ...layers.map(([name, , below]) => ({
              from: { file: { categories: name } },
              allow: { to: { file: { categories: { anyOf: [name, ...below] } } } },
            })),
          ],
        },
      ],
    },
  },
  {
    files: ['src/**'],
    ignores: NODE_ONLY,
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ group: ['node:*'], message: `Only ${NODE_ONLY.join(', ')} may use what Node has.` }] },
      ],
    },
  },
  {
    files: ['src/**'],
    ignores: ['src/api/local-backend.ts', 'src/node/host.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "NewExpression[callee.name='Worker']",
          message: 'Only src/api/local-backend.ts and src/node/host.ts start workers.',
        },
      ],
    },
  },
  {
    // plain Node scripts carry no types of their own
    files: ['**/*.mjs', '**/*.js'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        URL: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        fetch: 'readonly',
      },
    },
  },
);
