/** The live loss curve. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

/**
 * A colour of the style sheet as a canvas understands it: custom properties with
 * `light-dark()` are resolved only where an element uses them.
 */
function inkOf(host: HTMLElement, name: string): string {
  host.style.color = `var(${name})`;
  const { color } = getComputedStyle(host);
  host.style.color = '';
  return color;
}

export class LossChart {
  readonly #plot: uPlot;
  readonly #host: HTMLElement;
  #goal = 10;
  #steps: number[] = [];
  #losses: number[] = [];

  constructor(host: HTMLElement) {
    this.#host = host;
    const font = '12px system-ui, sans-serif';
    const axis = {
      font,
      stroke: () => inkOf(host, '--muted'),
      grid: { stroke: () => inkOf(host, '--line'), width: 1 },
      ticks: { show: false },
    };
    this.#plot = new uPlot(
      {
        width: host.clientWidth || 400,
        height: host.clientHeight || 240,
        cursor: { y: false, points: { size: 7 } },
        legend: { show: false },
        scales: {
          x: { time: false, range: () => [0, this.#goal] },
          y: { range: (_, __, max) => [0, Math.max(1, Math.ceil(max))] },
        },
        axes: [
          { ...axis, size: 32, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000] },
          { ...axis, size: 36, space: 48 },
        ],
        series: [
          {},
          {
            stroke: () => inkOf(host, '--accent'),
            width: 2,
            points: { show: (_, __, ___, last) => last < 60, size: 5 },
          },
        ],
      },
      [[], []],
      host,
    );
    new ResizeObserver(() => this.#resize()).observe(host);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#plot.redraw());
  }

  /** Starts anew from these losses of steps 1, 2, … */
  show(losses: readonly number[]): void {
    this.#losses = [...losses];
    this.#steps = losses.map((_, i) => i + 1);
    this.#draw();
  }

  get losses(): readonly number[] {
    return this.#losses;
  }

  /** The axis runs up to this step. */
  set goal(step: number) {
    this.#goal = Math.max(10, step);
    this.#draw();
  }

  add(step: number, loss: number): void {
    this.#steps.push(step);
    this.#losses.push(loss);
    this.#draw();
  }

  #draw(): void {
    this.#plot.setData([this.#steps, this.#losses]);
    const last = this.#losses.at(-1);
    this.#host.ariaLabel =
      last === undefined
        ? 'Loss per token by training step: no steps yet'
        : `Loss per token by training step: from ${this.#losses[0]!.toFixed(2)} to ${last.toFixed(2)} in ${this.#losses.length} steps`;
  }

  #resize(): void {
    // nothing to fit while its tab is hidden
    if (this.#host.clientWidth === 0) return;
    this.#plot.setSize({ width: this.#host.clientWidth, height: this.#host.clientHeight });
  }
}
