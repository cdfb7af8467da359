/** Plans which temporaries share a buffer: a slot is reused once its last reader has run. */
import type { Trace } from '../../trace';

export interface SlotPlan {
  /** slot index by storage id */
  readonly slotOf: ReadonlyMap<number, number>;
  /** bytes of each slot */
  readonly slotBytes: readonly number[];
}

/**
 * Best fit: a new temporary takes the free slot whose size wastes least,
 * growing it when it is too small. Outputs are live to the end.
 * @param bytesOf capacity in bytes of a storage
 */
export function planSlots(trace: Trace, bytesOf: (storage: number) => number): SlotPlan {
  const lastUse = new Map<number, number>();
  trace.nodes.forEach(({ node }, i) => {
    for (const t of [...Object.values(node.inputs), ...Object.values(node.outputs)]) {
      if (t) lastUse.set(t.storage, i);
    }
  });
  for (const t of trace.outputs.values()) lastUse.set(t.storage, Infinity);

  const slotOf = new Map<number, number>();
  const slotBytes: number[] = [];
  const free = new Set<number>();
  trace.nodes.forEach(({ node }, i) => {
    for (const t of Object.values(node.outputs)) {
      if (trace.placement.get(t.storage) !== 'temp' || slotOf.has(t.storage)) continue;
      const need = bytesOf(t.storage);
      let best = -1;
      let bestCost = Infinity;
      for (const slot of free) {
        const have = slotBytes[slot]!;
        // growing a slot costs what it grows by; a roomy slot costs nothing but its waste
        const cost = have >= need ? (have - need) / 1e6 : need - have;
        if (cost < bestCost) [best, bestCost] = [slot, cost];
      }
      if (best < 0) best = slotBytes.push(0) - 1;
      free.delete(best);
      slotBytes[best] = Math.max(slotBytes[best]!, need);
      slotOf.set(t.storage, best);
    }
    for (const t of [...Object.values(node.inputs), ...Object.values(node.outputs)]) {
      const slot = t && slotOf.get(t.storage);
      if (slot !== undefined && lastUse.get(t!.storage) === i) free.add(slot);
    }
  });
  return { slotOf, slotBytes };
}
