/** What every store must do, by itself and under a catalog; run on each kind where that lives. */
import { archives } from './contract/archives';
import type { StoreCases } from './contract/cases';
import { faults } from './contract/faults';
import { records } from './contract/records';
import { saving } from './contract/saving';
import { together } from './contract/together';

export const storeContract: StoreCases = { ...records, ...saving, ...faults, ...together, ...archives };
