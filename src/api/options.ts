/** Guards what comes as one object: a misspelt or snake_case name would otherwise be a silent default. */
import { BadRequestError } from './contract/errors';

/**
 * @param name of the call or class, as errors name it
 * @throws BadRequestError unless `given` is an object of known names
 */
export function checkNames<T extends object>(
  name: string,
  given: T,
  known: readonly (string & keyof T)[],
): void {
  const names: readonly string[] = known;
  if (typeof given !== 'object' || given === null) {
    throw new BadRequestError(
      `${name}: takes an object with ${names.join(', ')}, got ${JSON.stringify(given)}`,
    );
  }
  for (const key of Object.keys(given)) {
    if (names.includes(key)) continue;
    throw new BadRequestError(`${name}.${key}: unknown setting; known: ${names.join(', ')}`);
  }
}
