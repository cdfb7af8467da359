/** Adapters that Python's peft, or this library elsewhere, has made. */
import type { ImportCheckpointRequest } from '../api/contract/backend';
import { BadRequestError, UnprocessableEntityError } from '../api/contract/errors';
import { LORA_ALPHA, MAX_RANK } from '../api/contract/lora';
import { ADAPTER_FILE, CONFIG_FILE, damaged, readAdapter } from './adapter-files';
import { readArchive } from './archive';
import type { AdapterDescription, AdapterMatrices } from './catalog-types';
import { partsOf, scaleUpdate } from './peft';

/** The most bytes of each file that is read. */
const LIMITS = { [ADAPTER_FILE]: 2 ** 31, [CONFIG_FILE]: 2 ** 20 };

/** An adapter that this engine can go on with. */
export interface ImportedAdapter {
  readonly adapter: AdapterDescription;
  /** of modules that the adapter leaves out there are none */
  readonly matrices: AdapterMatrices;
}

/**
 * Reads an adapter in PEFT's layout. Another scaling than the service's is folded into B.
 *
 * @param baseModel null: the one `adapter_config.json` names
 * @throws BadRequestError for a kind of adapter that this engine does not have
 * @throws UnprocessableEntityError for damaged or missing files
 */
export async function readImport(
  source: ImportCheckpointRequest['source'],
  baseModel: string | null,
): Promise<ImportedAdapter> {
  const files = source instanceof Blob ? await readArchive(source, LIMITS) : new Map(Object.entries(source));
  const file = (name: keyof typeof LIMITS): Blob => {
    const blob = files.get(name);
    if (!blob) throw new UnprocessableEntityError(`source: has no ${name}`);
    if (blob.size > LIMITS[name])
      throw new UnprocessableEntityError(`source: ${name} has ${blob.size} bytes, over the limit`);
    return blob;
  };
  const model = file(ADAPTER_FILE);
  const config = readConfig(await file(CONFIG_FILE).text());
  const found = readAdapter(await model.arrayBuffer(), config.rank, damaged('source', ADAPTER_FILE));
  const matrices = scaleUpdate(found, config.scale / (LORA_ALPHA / config.rank));
  const base = baseModel ?? config.baseModel;
  if (!base) throw new BadRequestError(`base_model: ${CONFIG_FILE} names none; say which the adapter is for`);
  return {
    adapter: { baseModel: base, rank: config.rank, alpha: LORA_ALPHA, ...partsOf(matrices) },
    matrices,
  };
}

interface PeftConfig {
  readonly rank: number;
  /** what B·A is multiplied with */
  readonly scale: number;
  readonly baseModel: string | null;
}

/** Fields that change nothing here, or that are looked at. */
const KNOWN = new Set([
  'peft_type',
  'task_type',
  'peft_version',
  'auto_mapping',
  'base_model_name_or_path',
  'revision',
  'inference_mode',
  'r',
  'lora_alpha',
  'use_rslora',
  'lora_dropout',
  'bias',
  'init_lora_weights',
  'eva_config',
  // which modules have matrices, their names say themselves
  'target_modules',
  'exclude_modules',
  'layers_to_transform',
  'layers_pattern',
  // settings of what is refused when it is used
  'megatron_core',
  'qalora_group_size',
]);

/** Ways to begin that also change the base model, so that the matrices fit no other. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  (typeof value === 'object' && Object.keys(value).length === 0);

function readConfig(text: string): PeftConfig {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new UnprocessableEntityError(`source: ${CONFIG_FILE} is not JSON`, { cause: error });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new UnprocessableEntityError(`source: ${CONFIG_FILE} is not a JSON object`);
  }
  const c = config as Record<string, unknown>;
  const refuse = (field: string, rule: string): never => {
    throw new BadRequestError(`source: ${field} of ${CONFIG_FILE} ${rule}, got ${JSON.stringify(c[field])}`);
  };
  if (c.peft_type !== 'LORA') refuse('peft_type', 'must be "LORA"');
  if (c.bias !== undefined && c.bias !== 'none') refuse('bias', 'must be "none"');
  if (typeof c.init_lora_weights === 'string' && CHANGES_BASE.test(c.init_lora_weights)) {
    refuse('init_lora_weights', 'changes the base model too');
  }
  // DoRA, other ranks for some modules, whole modules beside the matrices, … and what peft has thought of since
  for (const field of Object.keys(c)) {
    if (!KNOWN.has(field) && !isEmpty(c[field])) refuse(field, 'is not supported');
  }
  const { r: rank, lora_alpha: alpha } = c;
  if (typeof rank !== 'number' || !Number.isInteger(Math.log2(rank)) || rank < 1 || rank > MAX_RANK) {
    return refuse('r', `must be a power of 2 up to ${MAX_RANK}`);
  }
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) return refuse('lora_alpha', 'must be a number');
  const base = c.base_model_name_or_path;
  return {
    rank,
    scale: alpha / (c.use_rslora === true ? Math.sqrt(rank) : rank),
    baseModel: typeof base === 'string' && base !== '' ? base : null,
  };
}
