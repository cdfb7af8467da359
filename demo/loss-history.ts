/** The losses that led to a checkpoint: kept beside it, so that a resumed curve goes on where it was. */

const PREFIX = 'webtinker-demo:losses:';

/** Notes the loss per token of every step up to a checkpoint. */
export function rememberLosses(tinkerPath: string, losses: readonly number[]): void {
  localStorage.setItem(PREFIX + tinkerPath, JSON.stringify(losses));
}

/** The losses up to a checkpoint; undefined where this page did not save it, as after an import. */
export function lossesOf(tinkerPath: string): number[] | undefined {
  const text = localStorage.getItem(PREFIX + tinkerPath);
  return text === null ? undefined : (JSON.parse(text) as number[]);
}

export function forgetLosses(tinkerPath: string): void {
  localStorage.removeItem(PREFIX + tinkerPath);
}
