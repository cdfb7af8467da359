/**
 * `npm run example NAME [ARGUMENT …]`: runs examples/NAME.ts in a real, headless
 * browser and prints what it logs. Without a name it lists the examples.
 */
import { ensureInstalled } from './ensure-installed.mjs';
import { EXAMPLES, listExamples, openExamples } from './examples.mjs';

const [name, ...args] = process.argv.slice(2);
if (name === undefined) {
  console.log(`\n${listExamples()}\n`);
  process.exit();
}
if (!EXAMPLES.includes(name)) {
  console.error(`\nThere is no example "${name}". There are:\n\n${listExamples()}\n`);
  process.exit(1);
}

ensureInstalled();
let examples;
let problem;
try {
  examples = await openExamples();
  problem = await examples.run(name, args, (line) => console.log(line));
} catch (error) {
  problem = error.message;
  console.error(problem);
} finally {
  await examples?.close();
}
process.exit(problem ? 1 : 0);
