/** The pieces of a model's input. */
import { BadRequestError } from './contract/errors';

/** Image formats of the service. */
export type ImageFormat = 'png' | 'jpeg';

/** A run of token ids. */
export class EncodedTextChunk {
  readonly type = 'encoded_text';
  readonly tokens: readonly number[];

  /** @param init.tokens copied */
  constructor({ tokens }: { readonly tokens: Iterable<number> }) {
    this.tokens = Object.freeze([...tokens]);
    Object.freeze(this);
  }

  /** Number of tokens. */
  get length(): number {
    return this.tokens.length;
  }
}

/** An image as bytes. The local engine has no vision model and refuses it; the type is for the remote service. */
export class ImageChunk {
  readonly type = 'image';
  /** of a PNG or JPEG file */
  readonly data: Uint8Array;
  readonly format: ImageFormat;
  /** how many tokens the image takes; null = not known here */
  readonly expectedTokens: number | null;

  constructor(init: {
    readonly data: Uint8Array;
    readonly format: ImageFormat;
    readonly expectedTokens?: number | null;
  }) {
    this.data = init.data;
    this.format = checkFormat(init.format);
    this.expectedTokens = init.expectedTokens ?? null;
    Object.freeze(this);
  }

  /** Number of tokens. @throws BadRequestError where `expectedTokens` is not set */
  get length(): number {
    return imageLength(this);
  }
}

/** An image that the service has already, by its address. Refused by the local engine, as `ImageChunk` is. */
export class ImageAssetPointerChunk {
  readonly type = 'image_asset_pointer';
  readonly location: string;
  readonly format: ImageFormat;
  /** how many tokens the image takes; null = not known here */
  readonly expectedTokens: number | null;

  constructor(init: {
    readonly location: string;
    readonly format: ImageFormat;
    readonly expectedTokens?: number | null;
  }) {
    this.location = init.location;
    this.format = checkFormat(init.format);
    this.expectedTokens = init.expectedTokens ?? null;
    Object.freeze(this);
  }

  /** Number of tokens. @throws BadRequestError where `expectedTokens` is not set */
  get length(): number {
    return imageLength(this);
  }
}

export type ModelInputChunk = EncodedTextChunk | ImageChunk | ImageAssetPointerChunk;

/** A chunk, or what one is made of: a plain object with its `type`. */
export type ModelInputChunkInit =
  | ModelInputChunk
  | ({ readonly type: 'encoded_text' } & ConstructorParameters<typeof EncodedTextChunk>[0])
  | ({ readonly type: 'image' } & ConstructorParameters<typeof ImageChunk>[0])
  | ({ readonly type: 'image_asset_pointer' } & ConstructorParameters<typeof ImageAssetPointerChunk>[0]);

/** @throws BadRequestError on a `type` that is none of these */
export function toChunk(init: ModelInputChunkInit, field: string): ModelInputChunk {
  switch (init.type) {
    case 'encoded_text':
      return init instanceof EncodedTextChunk ? init : new EncodedTextChunk(init);
    case 'image':
      return init instanceof ImageChunk ? init : new ImageChunk(init);
    case 'image_asset_pointer':
      return init instanceof ImageAssetPointerChunk ? init : new ImageAssetPointerChunk(init);
    default: {
      const { type } = init as { readonly type?: unknown };
      throw new BadRequestError(
        `${field}.type: must be encoded_text, image or image_asset_pointer, got ${String(type)}`,
      );
    }
  }
}

function checkFormat(format: ImageFormat): ImageFormat {
  if (format !== 'png' && format !== 'jpeg') {
    throw new BadRequestError(`image.format: must be png or jpeg, got ${String(format)}`);
  }
  return format;
}

function imageLength({ type, expectedTokens }: ImageChunk | ImageAssetPointerChunk): number {
  if (expectedTokens === null) {
    throw new BadRequestError(`${type}.expected_tokens: must be set before the length is asked for`);
  }
  return expectedTokens;
}
