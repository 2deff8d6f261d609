/** Smooth motion between updates that come once or twice a second: a track is drawn a little late, never ahead. */

import { clamp } from "./geometry";

/** How many updates a track keeps: enough for a trail of half a minute at 2 Hz. */
const KEPT = 64;

/** A silence longer than this many usual intervals is a standstill, not a slow crawl. */
const STANDSTILL_INTERVALS = 2.5;

const FIRST_INTERVAL_MS = 600;
const MAX_INTERVAL_MS = 6_000;

interface Sample {
  readonly at: number;
  readonly values: readonly number[];
}

/**
 * Values of one device over the browser's own clock (ms, as of `performance.now()`).
 *
 * `jump` is the change of any channel between two updates that is a jump rather than a motion; it is not interpolated.
 */
export class Track {
  private readonly samples: Sample[] = [];
  private interval = FIRST_INTERVAL_MS;

  constructor(private readonly jump: number) {}

  /** Take an update that arrived at `at`. */
  push(at: number, values: readonly number[]): void {
    const last = this.samples.at(-1);
    if (last) {
      const gap = at - last.at;
      if (gap <= 0) return;
      if (gap > this.interval * STANDSTILL_INTERVALS && gap > 2 * FIRST_INTERVAL_MS) {
        // It stood still and is moving again: begin the motion one interval ago instead of back then.
        if (gap > MAX_INTERVAL_MS) this.samples.push({ at: at - this.interval, values: last.values });
        else this.interval += 0.3 * (gap - this.interval);
      } else {
        this.interval += 0.15 * (clamp(gap, 100, MAX_INTERVAL_MS) - this.interval);
      }
    }
    this.samples.push({ at, values });
    if (this.samples.length > KEPT) this.samples.splice(0, this.samples.length - KEPT);
  }

  /** How far behind the newest update the track is drawn (ms), so that there is always a next one to move towards. */
  get delay(): number {
    return this.interval * 1.2 + 80;
  }

  /** The values at `now` less the delay, interpolated; null before the first update. */
  at(now: number): readonly number[] | null {
    const first = this.samples[0];
    if (!first) return null;
    const when = now - this.delay;
    let index = this.samples.length - 1;
    while (index > 0 && this.samples[index]!.at > when) index -= 1;
    const before = this.samples[index] ?? first;
    const after = this.samples[index + 1];
    if (!after || when <= before.at) return before.values;
    const share = clamp((when - before.at) / (after.at - before.at), 0, 1);
    if (before.values.some((value, channel) => Math.abs((after.values[channel] ?? value) - value) > this.jump)) {
      return share < 1 ? before.values : after.values;
    }
    return before.values.map((value, channel) => value + share * ((after.values[channel] ?? value) - value));
  }

  /** The newest values as they came, not interpolated. */
  get newest(): readonly number[] | null {
    return this.samples.at(-1)?.values ?? null;
  }

  /** The updates of the last `span` ms up to what is drawn at `now`, oldest first. */
  trail(now: number, span: number): readonly (readonly number[])[] {
    const until = now - this.delay;
    return this.samples.filter(({ at }) => at <= until && at >= until - span).map(({ values }) => values);
  }

  /** The direction of the latest motion on the first two channels (radians), or null if it has not moved. */
  course(now: number): number | null {
    const until = now - this.delay;
    for (let index = this.samples.length - 1; index > 0; index -= 1) {
      const before = this.samples[index - 1]!;
      const after = this.samples[index]!;
      if (before.at > until) continue;
      const dx = (after.values[0] ?? 0) - (before.values[0] ?? 0);
      const dy = (after.values[1] ?? 0) - (before.values[1] ?? 0);
      const distance = Math.hypot(dx, dy);
      if (distance > 0.2 && distance < this.jump) return Math.atan2(dy, dx);
    }
    return null;
  }
}
