/** Blobs between threads. */

/**
 * The same in memory, which other threads can read. Node does not clone a blob of the disk, and dies when another
 * thread reads one that such a blob is a part of.
 */
export async function inMemory(blob: Blob): Promise<Blob> {
  return new Blob([await blob.arrayBuffer()], { type: blob.type });
}
