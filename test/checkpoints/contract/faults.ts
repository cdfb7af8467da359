/** Crashes, damage and full disks. */
import { StorageFullError, UnprocessableEntityError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { writeSafetensors, type HostTensor } from '../../../src/models/safetensors';
import { equal, ok, rejects } from '../support/check';
import { FullStore } from '../support/full-store';
import { pathOf, sample, sameAdapter } from '../support/samples';
import { bytesOf, keyOf, names, page, replaceFile, tamper, type StoreCases } from './cases';

export const faults: StoreCases = {
  'reclaims what no record names, but not what is being written': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const kept = sample(1);
    await catalog.save(kept);
    const orphan = await store.createFolder();
    await orphan.write('adapter_model.safetensors', bytesOf('half a'));
    await orphan.close();
    const live = await store.createFolder();
    await live.write('adapter_model.safetensors', bytesOf('half a'));
    const next = await Catalog.open(await open());
    equal(await next.swept, { orphans: 1, expired: 0 }, 'swept');
    equal(await store.readFile(orphan.id, 'adapter_model.safetensors'), undefined, 'the orphan');
    ok(await store.readFile(live.id, 'adapter_model.safetensors'), 'what is being written is left alone');
    await live.discard();
    sameAdapter(await next.load(pathOf(kept), { optimizer: true }), kept);
  },

  'gives a typed error for damaged files, and leaves the others alone': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const [victim, other] = [sample(1), sample(2)];
    const path = pathOf(victim);
    await catalog.save(other);
    const record = await catalog.save(victim);
    const load = (): Promise<unknown> => catalog.load(path, { optimizer: true });
    for (const { name, bytes } of record.files) {
      const said = new RegExp(`weights/n1: ${name} `);
      const damage: [string, (b: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined][] = [
        ['missing', () => undefined],
        ['empty', () => new Uint8Array()],
        ['truncated', (b) => b.subarray(0, bytes - 1)],
        ['longer', (b) => new Uint8Array([...b, 0])],
      ];
      for (const bit of [0, bytes * 4, bytes * 8 - 1]) {
        damage.push([
          `bit ${bit}`,
          (b) => b.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
        ]);
      }
      for (const [what, change] of damage) {
        await tamper(store, path, (file, b) => (file === name ? change(b) : b));
        const error = await rejects(load(), UnprocessableEntityError, said);
        equal(error.statusCode, 422, what);
        await catalog.save({ ...victim, overwrite: true });
      }
    }
    sameAdapter(await catalog.load(pathOf(other), { optimizer: true }), other);
  },

  'gives a typed error for files that are whole and wrong': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const victim = sample(1);
    const path = pathOf(victim);
    const tensor = (...shape: number[]): HostTensor => ({
      shape,
      data: new Float32Array(shape.reduce((n, s) => n * s, 1)),
    });
    const file = (tensors: Record<string, HostTensor>, step?: string): Uint8Array<ArrayBuffer> =>
      new Uint8Array(writeSafetensors(new Map(Object.entries(tensors)), step === undefined ? {} : { step }));
    const q = 'base_model.model.model.layers.0.self_attn.q_proj';
    const header = (json: string, length = json.length): Uint8Array<ArrayBuffer> => {
      const bytes = new Uint8Array([...new Uint8Array(8), ...bytesOf(json)]);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
      return bytes;
    };
    const adapters: [RegExp, Uint8Array<ArrayBuffer>][] = [
      [/rank/, file({ [`${q}.lora_A.weight`]: tensor(3, 6), [`${q}.lora_B.weight`]: tensor(6, 3) })],
      [/rank/, file({ [`${q}.lora_A.weight`]: tensor(2, 6), [`${q}.lora_B.weight`]: tensor(6, 4) })],
      [/without/, file({ [`${q}.lora_A.weight`]: tensor(2, 6) })],
      [/no matrix/, file({ [`${q}.lora_A.weight`]: tensor(2, 6, 1), [`${q}.lora_B.weight`]: tensor(6, 2) })],
      [/no LoRA matrix/, file({ '../../etc/passwd': tensor(2, 6) })],
      [/no LoRA matrix/, file({ __proto__x: tensor(2, 6) })],
      [/holds no LoRA/, file({})],
      [/safetensors/, bytesOf('<html>')],
      [/safetensors/, header('{}', 2 ** 52)],
      [/safetensors/, header('{"a":')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1e9,1e9],"data_offsets":[0,4]}}')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')],
    ];
    for (const [reason, bytes] of adapters) {
      await catalog.save({ ...victim, overwrite: true });
      await replaceFile(store, path, 'adapter_model.safetensors', bytes);
      const said = new RegExp(`weights/n1: adapter_model.safetensors .*${reason.source}`);
      await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, said);
    }
    const optimizers: [RegExp, Uint8Array<ArrayBuffer>][] = [
      [/no step count/, file({})],
      [/no step count/, file({}, '-1')],
      [/no step count/, file({}, 'x')],
      [/lacks 'm\./, file({}, '1')],
      [/of shape/, file({ 'm.layers.0.self_attn.q_proj.lora_A': tensor(1, 12) }, '1')],
    ];
    for (const [reason, bytes] of optimizers) {
      await catalog.save({ ...victim, overwrite: true });
      await replaceFile(store, path, 'optimizer.safetensors', bytes);
      const said = new RegExp(`weights/n1: optimizer.safetensors .*${reason.source}`);
      await rejects(catalog.load(path, { optimizer: true }), UnprocessableEntityError, said);
      sameAdapter(await catalog.load(path, { optimizer: false }), victim);
    }
    // records are not believed either
    for (const folder of ['..', '../..', '/', 'a/../..', '']) {
      await store.update('checkpoints', keyOf(path), (current) => ({ ...current, folder }));
      await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, /./);
    }
    await store.update('checkpoints', keyOf(path), (current) => ({ ...current, format: 2 }));
    await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, /format 2/);
    await rejects(catalog.archive(path), UnprocessableEntityError, /format 2/);
  },

  'gives a typed error when full, at whichever byte, and leaves what there was': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const old = sample(1, { name: 'a' });
    const { files } = await catalog.save(old);
    const folders = await store.listFolders();
    // a byte before, at, and after the end of each file, and within it; the last is the record's
    const ends = files.map((_, i) => files.slice(0, i + 1).reduce((n, { bytes }) => n + bytes, 0));
    const rooms = [0, 1, ...ends.flatMap((end, i) => [end - (files[i]!.bytes >> 1), end - 1, end, end + 1])];
    for (const room of rooms) {
      const full = await Catalog.open(new FullStore(store, room).store);
      await rejects(full.save(sample(2, { name: 'b' })), StorageFullError, /room/);
      await rejects(full.save(sample(2, { name: 'a', overwrite: true })), StorageFullError, /room/);
      equal(await store.listFolders(), folders, `folders with room for ${room} bytes`);
      equal(
        names(await catalog.listUserCheckpoints(page)),
        ['weights/a'],
        `checkpoints with room for ${room} bytes`,
      );
      sameAdapter(await catalog.load(pathOf(old), { optimizer: true }), old);
    }
    const counted = new FullStore(store, Infinity);
    await (await Catalog.open(counted.store)).save(sample(2, { name: 'b' }));
    ok(counted.written > ends.at(-1)!, 'the record was counted as well');
    await (await Catalog.open(new FullStore(store, counted.written).store)).save(sample(2, { name: 'c' }));
  },
};
