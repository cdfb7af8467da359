/** Files of this folder's neighbours, on a page and in Node. */

/** `fetch` of this place, which reads files in Node. */
export const fetchHere: typeof fetch = import.meta.env.SSR
  ? (await import('../../src/node/models')).fetchAny
  : globalThis.fetch.bind(globalThis);

// said apart, or vite takes the address for that of an asset
const here = import.meta.url;

/** The address of a file or folder in `test/fixtures`. */
export const fixtureUrl = (path: string): string => new URL(`../fixtures/${path}`, here).href;

export async function readFixture(path: string): Promise<Response> {
  const response = await fetchHere(fixtureUrl(path));
  if (!response.ok) throw new Error(`test/fixtures/${path}: HTTP ${response.status}`);
  return response;
}
