/** Workers that are terminated while they save, and workers that save together: the tabs of one site. */
import * as Comlink from 'comlink';
import { afterEach, expect, test } from 'vitest';
import type { Event } from './support/journal';
import type { StoreWorker } from './support/store-worker';

interface Tab {
  readonly call: Comlink.Remote<StoreWorker>;
  readonly end: () => void;
}

const tabs = new Set<Tab>();
afterEach(() => tabs.forEach((tab) => tab.end()));

function openTab(): Tab {
  const worker = new Worker(new URL('./support/store-worker.ts', import.meta.url), { type: 'module' });
  const call = Comlink.wrap<StoreWorker>(worker);
  const tab: Tab = {
    call,
    end: () => {
      worker.terminate();
      tabs.delete(tab);
    },
  };
  tabs.add(tab);
  return tab;
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** Waits until no locks of these names are held: `terminate` only asks a worker to end. */
async function untilFree(prefix: string): Promise<void> {
  for (;;) {
    const { held = [] } = await navigator.locks.query();
    if (!held.some((lock) => lock.name!.startsWith(prefix))) return;
    await sleep(1);
  }
}

let seeds = 0;

/** Lets a tab save, and ends it at a random moment of opening the store or of one of the first saves. */
async function killOne(tab: Tab, name: string, lane: string): Promise<Event[]> {
  const events: Event[] = [];
  const after = Math.floor(Math.random() * 7);
  let alive = true;
  await new Promise<void>((reached, failed) => {
    if (after === 0) reached();
    const hear = (event: Event): void => {
      // what is heard after its death did not begin, or may have ended
      if (alive) events.push(event);
      if (events.length === after) reached();
    };
    // each tab goes on where the seeds of all before it ended
    tab.call.churn(name, lane, (seeds += 1000), Comlink.proxy(hear)).catch(failed);
  });
  await sleep(Math.random() * 10);
  tab.end();
  alive = false;
  await untilFree(`${name}:alive:${lane}`);
  return events;
}

test('what was reported saved survives 200 terminations, and nothing else stays', async () => {
  const name = `test-${crypto.randomUUID()}`;
  const judge = openTab();
  let next = openTab();
  let [orphans, reported] = [0, 0];
  for (let kill = 0; kill < 200; kill++) {
    const tab = next;
    // loads while the other saves
    next = openTab();
    const events = await killOne(tab, name, 'a');
    await untilFree(name);
    const found = await judge.call.judge(name, 'a', events);
    expect(found.folders).toBe(found.visible);
    orphans += found.swept.orphans;
    reported = found.reported;
  }
  console.log(`200 terminations: ${reported} saves reported, ${orphans} torn ones reclaimed`);
  // else they came at moments that prove nothing
  expect(reported).toBeGreaterThan(100);
  expect(orphans).toBeGreaterThan(10);
});

test('two tabs replace and delete the same names', async () => {
  const name = `test-${crypto.randomUUID()}`;
  const last = new Map<string, Event[]>();
  const work = async (i: number): Promise<void> => {
    const hear = (event: Event): void => {
      if (event[0] === 'begin') return;
      const ends = last.get(event[2]) ?? [];
      ends[i] = event;
      last.set(event[2], ends);
    };
    await openTab().call.churn(name, 'x', (seeds += 1000), Comlink.proxy(hear), 40);
  };
  await Promise.all([0, 1].map(work));
  const ends = [...last.values()].flat();
  const { found, swept, folders } = await openTab().call.inspect(name);
  expect(swept).toEqual({ orphans: 0, expired: 0 });
  expect(folders).toBe(found.length);
  // each is what one of the two did to this name in the end
  for (const { id, step } of found) {
    const of = ends.filter(([, , as]) => `weights/${as}` === id);
    expect(of.map(([, what, , seed]) => `${what} ${seed}`)).toContain(`save ${step}`);
  }
});

test('the death of a tab does not disturb another', async () => {
  const name = `test-${crypto.randomUUID()}`;
  const judge = openTab();
  for (let kill = 0; kill < 8; kill++) {
    const [a, b] = [openTab(), openTab()];
    const events: Event[] = [];
    const working = b.call.churn(
      name,
      'b',
      (seeds += 1000),
      Comlink.proxy((event: Event) => void events.push(event)),
      6,
    );
    await judge.call.judge(name, 'a', await killOne(a, name, 'a'));
    await working;
    b.end();
    await judge.call.judge(name, 'b', events);
  }
});

test('ten thousand checkpoints are listed page by page', async () => {
  const { count, ordered, firstMs, restMs } = await openTab().call.listMany(10_000);
  console.log(`10,000 in IndexedDB: first page of a thousand ${firstMs} ms, the nine others ${restMs} ms`);
  expect(count).toBe(10_000);
  expect(ordered).toBe(true);
});
