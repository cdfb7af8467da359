/** Checkpoints as uncompressed `.tar` files: made without reading what goes in, and read with suspicion. */
import { createTarDecoder, createTarPacker, type TarHeader } from 'modern-tar';
import { UnprocessableEntityError } from '../api/contract/errors';

/** A tar is made of blocks of so many bytes. */
const BLOCK = 512;

/** Marks an archive as whole, for tools of the service. */
const COMPLETE = 'checkpoint_complete';

/** The block before a file. */
async function headerBlock(header: TarHeader): Promise<Uint8Array<ArrayBuffer>> {
  const { readable, controller } = createTarPacker();
  const first = readable.getReader().read();
  // the body is never given to it
  void controller.add(header);
  return (await first).value!;
}

/** A checkpoint's `.tar`, with these files at its root. They stay where they are until the archive is read. */
export function archiveOf(files: ReadonlyMap<string, Blob>, mtime: Date): Promise<Blob> {
  return tarOf(new Map([...files, [COMPLETE, new Blob()]]), mtime);
}

/** A `.tar` with these files, by path. They stay where they are until it is read. */
export async function tarOf(files: ReadonlyMap<string, Blob>, mtime: Date): Promise<Blob> {
  const parts: BlobPart[] = [];
  for (const [name, blob] of files) {
    parts.push(await headerBlock({ name, size: blob.size, mtime }), blob);
    parts.push(new Uint8Array((BLOCK - (blob.size % BLOCK)) % BLOCK));
  }
  // two empty blocks end it
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: 'application/x-tar' });
}

/**
 * Reads the wanted files at the root of a `.tar`; others are passed over.
 *
 * @param wanted names, and the most bytes each may have
 * @throws UnprocessableEntityError for what is no tar, links, names that lead out of it, and files that are too large
 */
export async function readArchive(
  archive: Blob,
  wanted: Readonly<Record<string, number>>,
): Promise<ReadonlyMap<string, Blob>> {
  const files = new Map<string, Blob>();
  const decoder = createTarDecoder({ strict: true });
  try {
    for await (const { header, body } of archive.stream().pipeThrough(decoder)) {
      const name = checkEntry(header);
      if (name === undefined || !Object.hasOwn(wanted, name)) {
        await body.cancel();
        continue;
      }
      if (files.has(name)) refuse(`has ${name} twice`);
      if (header.size > wanted[name]!)
        refuse(`has ${name} of ${header.size} bytes, over the limit of ${wanted[name]}`);
      files.set(name, await new Response(body).blob());
    }
  } catch (error) {
    if (error instanceof UnprocessableEntityError) throw error;
    refuse(`cannot be read as a .tar: ${(error as Error).message}`, error);
  }
  return files;
}

function refuse(reason: string, cause?: unknown): never {
  throw new UnprocessableEntityError(`source: the archive ${reason}`, { cause });
}

/** The name of a file without a leading `./`; undefined for a folder. */
function checkEntry({ name, type = 'file' }: TarHeader): string | undefined {
  const shown = JSON.stringify(name);
  if (/^([/\\]|[a-z]:)/i.test(name) || name.split(/[/\\]/).includes('..'))
    refuse(`has an entry that leads out of it, ${shown}`);
  if (type === 'directory') return undefined;
  if (type !== 'file') refuse(`has an entry that is no file, ${shown} (${type})`);
  return name.replace(/^(\.\/)+/, '');
}
