/** The sets of kernels attention can run on, and which one an adapter and a head dimension get. */
import { ceilDiv, kernel, spread, type Constant, type Elem, type Grid, type KernelSpec } from '../kernel';
import type { AdapterProfile } from '../op';
import quadDkv from './attention-quad-dkv.wgsl?raw';
import quadDq from './attention-quad-dq.wgsl?raw';
import quadForward from './attention-quad.wgsl?raw';
import scalarDkv from './attention-scalar-dkv.wgsl?raw';
import scalarDq from './attention-scalar-dq.wgsl?raw';
import scalarForward from './attention-scalar.wgsl?raw';
import tileDkv from './attention-tile-dkv.wgsl?raw';
import tileDq from './attention-tile-dq.wgsl?raw';
import tileForward from './attention-tile.wgsl?raw';
import quadBackward from './quad-backward.wgsl?raw';
import quadSlices from './quad-slices.wgsl?raw';
import tilesBackward from './tiles-backward.wgsl?raw';
import tiles from './tiles.wgsl?raw';

/** Forward, gradient of the queries (with delta), gradient of keys and values: one launch each. */
export interface AttentionVariant {
  readonly forward: KernelSpec;
  readonly dq: KernelSpec;
  readonly dkv: KernelSpec;
  readonly constants: Readonly<Record<string, Constant>>;
  /** workgroups for `rows` tokens of `heads` query heads (forward, dq) or key heads (dkv) */
  readonly grid: (rows: number, heads: number) => Grid;
}

function kernels(
  stem: string,
  elem: Elem,
  code: { forward: string; dq: string; dkv: string },
  enables: readonly string[] = [],
) {
  const params = { rows: 'u32', heads: 'u32', kv_heads: 'u32', scale: 'f32' } as const;
  const qkv = { elem, access: 'read' } as const;
  const segments = { elem: 'u32', access: 'read' } as const;
  const f32 = { elem: 'f32', access: 'read' } as const;
  const written = { elem: 'f32', access: 'read_write' } as const;
  return {
    forward: kernel({
      name: stem,
      code: code.forward,
      bindings: { qkv, segments, out: { elem, access: 'read_write' }, lse: written },
      params,
      enables,
    }),
    dq: kernel({
      name: `${stem}-dq`,
      code: code.dq,
      bindings: {
        qkv,
        segments,
        out: qkv,
        lse: f32,
        d_out: qkv,
        d_qkv: { elem, access: 'read_write' },
        delta: written,
      },
      params,
      enables,
    }),
    dkv: kernel({
      name: `${stem}-dkv`,
      code: code.dkv,
      bindings: {
        qkv,
        segments,
        lse: f32,
        d_out: qkv,
        delta: f32,
        d_qkv: { elem, access: 'read_write' },
      },
      params,
      enables,
    }),
  };
}

const scalarKernels = kernels('attention-scalar', 'f32', {
  forward: scalarForward,
  dq: scalarDq,
  dkv: scalarDkv,
});

// the shared functions come after the body, so that line numbers of errors stay those of the file
const quadKernels = kernels(
  'attention-quad',
  'vec4<f32>',
  {
    forward: quadForward + quadSlices,
    dq: quadDq + quadSlices + quadBackward,
    dkv: quadDkv + quadSlices + quadBackward,
  },
  ['subgroups'],
);

const tileKernels = kernels('attention-tile', 'vec4<f32>', {
  forward: tileForward + tiles,
  dq: tileDq + tiles + tilesBackward,
  dkv: tileDkv + tiles + tilesBackward,
});

/** A workgroup takes `size` rows of one head. */
const byTile =
  (size: number) =>
  (rows: number, heads: number): Grid =>
    spread(ceilDiv(rows, size) * heads);

/** Any head dimension. */
function scalar(headDim: number): AttentionVariant {
  return {
    ...scalarKernels,
    constants: { HEAD_DIM: headDim },
    grid: (rows, heads) => spread(ceilDiv(rows * heads, 64)),
  };
}

/** The widest head whose quarter fits the registers of a lane of the quad kernels. */
const QUAD_MAX = 64;

/** Software adapters with quad operations: a quad of lanes takes two rows, each lane a quarter of the head. */
function quad(headDim: number): AttentionVariant {
  return {
    ...quadKernels,
    constants: { PARTS: headDim / 4, SLICES: ceilDiv(headDim, 16) },
    // two rows: half of four's shader to compile, for a quarter more time to run
    grid: byTile(2),
  };
}

/** GPUs: tiles of 32 rows in workgroup memory. */
function tile(headDim: number): AttentionVariant {
  return {
    ...tileKernels,
    constants: { PARTS: headDim / 4 },
    grid: byTile(32),
  };
}

export function variantFor(headDim: number, profile: AdapterProfile): AttentionVariant {
  if (headDim % 4 !== 0) return scalar(headDim);
  if (profile.kind === 'gpu') return tile(headDim);
  return profile.subgroups && headDim <= QUAD_MAX ? quad(headDim) : scalar(headDim);
}
