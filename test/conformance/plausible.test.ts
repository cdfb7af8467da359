/** Which tokens may differ between two devices whose logits agree to a bound, and which may not. */
import { describe, expect, test } from 'vitest';
import { plausibleTokens } from '../../src/conformance/ops/plausible';
import { randomArray } from '../support/compare';
import { samplingDistribution } from '../support/sampling';

const SLACK = 1e-5;
const ROUNDING = 1e-6;

/** The token at which the distribution, in order of ids, passes the draw. */
function tokenAt(p: Float64Array, unit: number): number {
  let passed = 0;
  const at = p.findIndex((x) => (passed += x) > unit);
  return at < 0 ? p.findLastIndex((x) => x > 0) : at;
}

describe('plausibleTokens', () => {
  test('is the one token that the distribution gives, but for draws beside an edge', () => {
    let single = 0;
    for (let seed = 1; seed <= 300; seed++) {
      const logits = randomArray(20, seed, 2);
      const temperature = [0.3, 1, 2][seed % 3]!;
      const [topK, topP] = [[0, 5, 1][seed % 3]!, [1, 0.8][seed % 2]!];
      const unit = (randomArray(1, 1000 + seed)[0]! + 4) / 8;
      const right = tokenAt(samplingDistribution(logits, { temperature, topK, topP }), unit);
      const rule = { temperature, top_k: topK, top_p: topP };
      const found = plausibleTokens(logits, rule, unit, SLACK, ROUNDING);
      expect(found === undefined || found.has(right)).toBe(true);
      if (found?.size === 1) single++;
    }
    expect(single).toBeGreaterThan(290);
  });

  test('has both tokens beside an edge, and only there', () => {
    const logits = Float32Array.of(0, 0, 0, 0);
    const rule = { temperature: 1, top_k: 0, top_p: 1 };
    const at = (unit: number) => [...plausibleTokens(logits, rule, unit, SLACK, ROUNDING)!];
    expect(at(0.25 - 1e-6)).toEqual([0, 1]);
    expect(at(0.25 + 1e-6)).toEqual([0, 1]);
    expect(at(0.26)).toEqual([1]);
  });

  test('has the largest logits alone where nothing is random', () => {
    const rule = { temperature: 0, top_k: 0, top_p: 1 };
    const logits = Float32Array.of(1, 3, 3 - 1e-5, 2);
    expect([...plausibleTokens(logits, rule, 0.5, SLACK, ROUNDING)!]).toEqual([1, 2]);
    // the logits are the same on both devices: so is the token
    expect([...plausibleTokens(logits, rule, 0.5, 0, ROUNDING)!]).toEqual([1]);
  });

  test('says that it cannot tell where rounding decides which tokens are kept', () => {
    const rule = { temperature: 1, top_k: 2, top_p: 1 };
    const logits = Float32Array.of(3, 1 + 1e-6, 1, 0);
    expect(plausibleTokens(logits, rule, 0.5, SLACK, ROUNDING)).toBeUndefined();
    expect(plausibleTokens(logits, rule, 0.5, 0, ROUNDING)).toBeDefined();
  });
});
