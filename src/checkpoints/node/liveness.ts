/** Who is writing: names of processes that outlive them, and whether their bearers do. */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';

const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 12);

/** When a process started, where the system says; undefined if there is none, or it is dead and only not yet reaped. */
function startOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return 'x';
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // the second field, a name in parentheses, may hold anything
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]!;
  } catch {
    return undefined;
  }
}

/** This process among all that may share a folder, in letters that file names can have; told from one that gets its id later. */
export const SELF = `${HOST}.${process.pid}.${startOf(process.pid) ?? 'x'}`;

/** A process of another machine is given up when its file is as old as this, ms. */
const FOREIGN_MS = 24 * 60 * 60 * 1000;

/**
 * Whether the process that called itself `name` is gone.
 * @param file what it left, whose age decides where the process cannot be asked for
 */
export function isGone(name: string, file: string): boolean {
  const [host, pid, start] = name.split('.');
  if (host !== HOST) return ageOf(file) > FOREIGN_MS;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    // it is there, and another user's
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return true;
  }
  return startOf(Number(pid)) !== start;
}

/** Milliseconds since a file was written; infinite when it is gone. */
export function ageOf(file: string): number {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat ? Date.now() - stat.mtimeMs : Infinity;
}
