/** Where checkpoints go in Node. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Catalog } from '../checkpoints/catalog';
import { FolderStore } from '../checkpoints/node/folder-store';
import type { Storage } from '../engine/ledger';

/** `checkpoints` in the folder that `WEBTINKER_HOME` names, or in `.webtinker` of the user's own. */
function defaultFolder(): string {
  return join(process.env.WEBTINKER_HOME || join(homedir(), '.webtinker'), 'checkpoints');
}

/** @param folder made when it is first needed; null: the default one */
export function folderStorage(folder: string | null): Storage {
  const path = folder ?? defaultFolder();
  return { kind: 'folder', open: async () => Catalog.open(await FolderStore.open(path)) };
}
