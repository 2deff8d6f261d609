/** A request that is repeated: the newest answer, when it came, and the newest failure. */

import { failureOf } from "./failures";

export class Polled<T> {
  value: T | null = null;
  error: string | null = null;
  private takenAt = Number.NaN;
  private running = false;

  constructor(
    private readonly ask: () => Promise<T>,
    private readonly everyMs: number,
    private readonly changed: () => void,
  ) {}

  start(): void {
    void this.refresh();
    setInterval(() => void this.refresh(), this.everyMs);
  }

  /** Ask now; a request that is still under way is not doubled. */
  async refresh(): Promise<void> {
    if (this.running) return;
    this.running = true;
    try {
      this.value = await this.ask();
      this.takenAt = performance.now();
      this.error = null;
    } catch (reason) {
      this.error = failureOf(reason);
    } finally {
      this.running = false;
    }
    this.changed();
  }

  /** Age of the newest answer, s; NaN before the first. */
  get age(): number {
    return (performance.now() - this.takenAt) / 1000;
  }

  /** Whether the newest answer is older than three rounds: it must not be taken for the present. */
  get stale(): boolean {
    return this.value !== null && this.age * 1000 > 3 * this.everyMs;
  }
}
