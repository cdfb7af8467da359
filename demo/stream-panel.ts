/** Samples from a saved adapter, and writes the tokens as they come. */
import { ModelInput, type Checkpoint, type SamplingClient, type Tokenizer } from '../src/index';
import { byId, problemOf } from './dom';
import type { Session } from './session';

export class StreamPanel {
  readonly #session: Session;
  readonly #form = byId<HTMLFormElement>('stream-form');
  readonly #start = byId<HTMLButtonElement>('stream-start');
  readonly #stop = byId<HTMLButtonElement>('stream-stop');
  readonly #output = byId('stream-output');
  #tinkerPath = '';
  #sampler: SamplingClient | undefined;
  #streaming: AbortController | undefined;

  constructor(session: Session) {
    this.#session = session;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#run();
    });
    this.#stop.addEventListener('click', () => this.#streaming?.abort());
  }

  /** Shows the panel for this checkpoint, ready for a prompt. */
  open({ tinkerPath }: Checkpoint, name: string): void {
    if (tinkerPath !== this.#tinkerPath) this.close();
    this.#tinkerPath = tinkerPath;
    byId('stream').hidden = false;
    byId('stream-name').textContent = name;
    byId('stream-name').title = tinkerPath;
    byId('stream').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    byId('stream-prompt').focus({ preventScroll: true });
  }

  /** Hides the panel if it shows this checkpoint, which is no more. */
  forget({ tinkerPath }: Checkpoint): void {
    if (tinkerPath === this.#tinkerPath) this.close();
  }

  /** Hides the panel, and frees its sampler. */
  close(): void {
    this.#streaming?.abort();
    void this.#sampler?.dispose();
    this.#sampler = undefined;
    this.#tinkerPath = '';
    byId('stream').hidden = true;
    this.#output.replaceChildren();
    this.#say('', '');
  }

  async #run(): Promise<void> {
    const streaming = (this.#streaming = new AbortController());
    const { signal } = streaming;
    this.#busy(true);
    this.#say('Loading the adapter …', '');
    const prompt = byId<HTMLTextAreaElement>('stream-prompt').value;
    const answer = document.createElement('ins');
    this.#output.replaceChildren(prompt, answer);
    try {
      const [sampler, tokenizer] = await this.#load();
      signal.throwIfAborted();
      const stream = sampler.stream({
        prompt: ModelInput.fromInts(tokenizer.encode(prompt)),
        samplingParams: {
          maxTokens: Number(byId<HTMLInputElement>('stream-max').value),
          temperature: Number(byId<HTMLInputElement>('stream-temperature').value),
          stop: ['\n\n'],
        },
        signal,
      });
      const all: number[] = [];
      let begun = 0; // when the first token came
      for await (const { tokens, stopReason } of stream) {
        if (all.length === 0) begun = performance.now();
        all.push(...tokens);
        // decoded as a whole: a character can be made of several tokens
        answer.textContent = tokenizer.decode(all, { skip_special_tokens: true }).trimEnd();
        const speed = (1000 * (all.length - 1)) / (performance.now() - begun);
        const pace = all.length > 1 ? `, ${speed.toFixed(0)} a second` : '';
        const end = { stop: ': done', length: ': as many as were asked for' };
        this.#say(`${all.length} tokens${pace}${stopReason ? end[stopReason] : ''}`, '');
      }
    } catch (error) {
      if (signal.aborted) this.#say('Stopped.', '');
      else this.#say('', problemOf(error));
    } finally {
      if (this.#streaming === streaming) {
        this.#streaming = undefined;
        this.#busy(false);
      }
    }
  }

  async #load(): Promise<[SamplingClient, Tokenizer]> {
    const { service } = this.#session;
    const modelPath = this.#tinkerPath;
    this.#sampler ??= await service.createSamplingClient({ modelPath });
    return [this.#sampler, await this.#sampler.getTokenizer()];
  }

  #busy(busy: boolean): void {
    this.#start.disabled = busy;
    this.#stop.disabled = !busy;
    this.#output.ariaBusy = String(busy);
  }

  #say(status: string, problem: string): void {
    byId('stream-status').textContent = status;
    byId('stream-problem').textContent = problem;
  }
}
