/** Base64 of little-endian f32, as the fixtures store results. */
export function unpack(text: string): Float32Array<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** (T, 2) u32: [start, end) of each token's segment, for segments of these lengths back to back. */
export function segmentsOf(lengths: readonly number[]): Uint32Array<ArrayBuffer> {
  const rows: number[] = [];
  let start = 0;
  for (const n of lengths) {
    for (let i = 0; i < n; i++) rows.push(start, start + n);
    start += n;
  }
  return Uint32Array.from(rows);
}

/** The adapter kinds every op with variants is tested for. */
export const PROFILES = [{ kind: 'software' }, { kind: 'gpu' }] as const;
