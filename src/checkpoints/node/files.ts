/** Files that are on disk when the promise says so. */
import { open } from 'node:fs/promises';

/** Makes a file and waits until its bytes are on disk. The name is, after `syncDirectory`. */
export async function writeSynced(path: string, bytes: Uint8Array | string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Waits until the names in a directory are on disk. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open directories, and keeps names in its journal
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
