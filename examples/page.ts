/** Runs the example named in the address (`?name=rl&arg=ppo`) and shows what it logs. */
const examples = import.meta.glob(['./*.ts', '!./page.ts']);

declare global {
  /** Set by scripts/run-example.mjs: hears how the example ended. */
  var exampleEnded: ((problem: string | null) => Promise<void>) | undefined;
}

const output = document.getElementById('log')!;
const log = console.log;
console.log = (...values: unknown[]) => {
  log(...values);
  output.append(`${values.map(String).join(' ')}\n`);
};

const name = new URLSearchParams(location.search).get('name');
const run = examples[`./${name}.ts`];
try {
  if (!run) throw new Error(`no example "${name}"; there are: ${Object.keys(examples).join(', ')}`);
  await run();
  await globalThis.exampleEnded?.(null);
} catch (error) {
  console.log(String(error));
  await globalThis.exampleEnded?.(String(error));
}
