/** Where vehicles have driven: the roads of a port that nobody has described, learnt from the traffic itself. */

import type { Point } from "./geometry";

/** Edge of a cell, m: about a lane. */
export const CELL_M = 4;

/** Cells beyond this are not kept: a few hundred kilometres of road, or someone's noisy tracker. */
const MOST_CELLS = 60_000;

/** Two positions farther apart than this were not joined by a straight drive, m. */
const LONGEST_STEP_M = 40;

/** Cells are numbered row by row within ±200 km. */
const ROW = 100_000;
const HALF = ROW / 2;

export class Roads {
  private readonly cells = new Set<number>();
  private readonly last = new Map<string, Point>();

  /** How many cells are known; it only grows. */
  get size(): number {
    return this.cells.size;
  }

  /** A vehicle is at `at` (plan metres) now; the way since its last place was driven. */
  drive(vehicle: string, at: Point): void {
    const from = this.last.get(vehicle);
    this.last.set(vehicle, at);
    if (!from) return;
    const length = Math.hypot(at.x - from.x, at.y - from.y);
    // Where vehicles only stand is no road.
    if (length < 0.5 || length > LONGEST_STEP_M) return;
    const steps = Math.ceil(length / (CELL_M / 2));
    for (let step = 0; step <= steps; step += 1) {
      this.add(from.x + ((at.x - from.x) * step) / steps, from.y + ((at.y - from.y) * step) / steps);
    }
  }

  /** The upper left corner of every cell, plan metres. */
  *corners(): Generator<Point> {
    for (const cell of this.cells) {
      const column = cell % ROW;
      yield { x: (column - HALF) * CELL_M, y: ((cell - column) / ROW - HALF) * CELL_M };
    }
  }

  private add(x: number, y: number): void {
    const column = Math.floor(x / CELL_M) + HALF;
    const row = Math.floor(y / CELL_M) + HALF;
    if (column < 0 || column >= ROW || row < 0 || row >= ROW || this.cells.size >= MOST_CELLS) return;
    this.cells.add(row * ROW + column);
  }
}
