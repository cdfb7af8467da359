/** Times as people say them. */
import { h } from './dom';

const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
] as const;
const relative = new Intl.RelativeTimeFormat('en');

/** What was set to a day a moment ago is in a day, not in 23 hours: a unit may lack this part of itself. */
const SLACK = 0.02;

/** "5 minutes ago", "in 2 days"; within a minute "just now" or "in under a minute". */
export function formatWhen(time: Date, now = Date.now()): string {
  const seconds = (time.getTime() - now) / 1000;
  for (const [unit, length] of UNITS) {
    const count = Math.floor(Math.abs(seconds) / length + SLACK);
    if (count > 0) return relative.format(Math.sign(seconds) * count, unit);
  }
  return seconds > 0 ? 'in under a minute' : 'just now';
}

/** A `time` element: relative text, the full date on hover. */
export function whenElement(time: Date): HTMLTimeElement {
  return h(
    'time',
    {
      dateTime: time.toISOString(),
      title: time.toLocaleString('en', { dateStyle: 'medium', timeStyle: 'medium' }),
    },
    formatWhen(time),
  );
}
