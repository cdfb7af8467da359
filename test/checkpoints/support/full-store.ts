/** A store with room for so many bytes: what would go beyond is written up to there and refused, as disks do. */
import { StorageFullError } from '../../../src/api/contract/errors';
import type { Store } from '../../../src/checkpoints/store';

export class FullStore {
  /** bytes written so far */
  written = 0;
  /** over the real one; records count with the bytes of their JSON */
  readonly store: Store;

  constructor(inner: Store, room: number) {
    /** How many of these bytes still fit. */
    const take = (bytes: number): number => {
      const fits = Math.max(0, Math.min(bytes, room - this.written));
      this.written += bytes;
      return fits;
    };
    const full = (): never => {
      throw new StorageFullError('no more room');
    };
    this.store = {
      kind: inner.kind,
      get: (...args) => inner.get(...args),
      list: (...args) => inner.list(...args),
      remove: (...args) => inner.remove(...args),
      readFile: (...args) => inner.readFile(...args),
      removeFolder: (...args) => inner.removeFolder(...args),
      listFolders: () => inner.listFolders(),
      space: () => inner.space(),
      close: () => inner.close(),
      update: (collection, key, change) =>
        inner.update(collection, key, (current) => {
          const value = change(current);
          // what is removed takes no room
          const length = value ? JSON.stringify(value).length : 0;
          return take(length) < length ? full() : value;
        }),
      createFolder: async () => {
        const writer = await inner.createFolder();
        const write: typeof writer.write = async (name, bytes) => {
          const fits = take(bytes.length);
          await writer.write(name, bytes.subarray(0, fits));
          if (fits < bytes.length) full();
        };
        return { id: writer.id, write, close: () => writer.close(), discard: () => writer.discard() };
      },
    };
  }
}
