import { expect, test } from "vitest";

import type { CraneThroughput, GateThroughput, Ledger, Point } from "../src/answers";
import { columnsOf, csvOf, digitsOf, lonePoints, yRange } from "../src/chart";
import { craneTotals, gateTotals, isQuiet, ledgerDifference, rateWindow } from "../src/figures";
import { pauseBefore } from "../src/stream";

const frame = {
  definition: { id: "moves_per_hour", version: "1", description: "", name: null, numerator: null, denominator: null },
  start: "2026-11-23T08:00:00Z",
  end: "2026-11-23T08:15:00Z",
  step: "PT1M",
  complete_through: null,
  observations: 0,
  coverage_percent: null,
  corrections: 0,
};

test("crane totals add the API's own rates; TEU follow the same hours", () => {
  const group = (name: string, moves: number, teu: number, rate: number | null) => ({
    group: name,
    site: "S",
    moves,
    teu,
    moves_per_hour: rate,
    points: [],
  });
  const answer: CraneThroughput = { ...frame, groups: [group("QC01", 8, 12, 32), group("QC02", 0, 0, null)] };
  expect(craneTotals(answer)).toEqual({ moves: 32, teu: 48, mean: 16 });
  expect(craneTotals({ ...frame, groups: [] })).toEqual({ moves: 0, teu: 0, mean: null });
});

test("gate totals split the rate by direction", () => {
  const group = (name: string, inward: number, outward: number, rate: number | null) => ({
    group: name,
    site: "S",
    passages_in: inward,
    passages_out: outward,
    passages_per_hour: rate,
  });
  const answer: GateThroughput = { ...frame, groups: [group("IN", 10, 0, 40), group("MIXED", 3, 1, 16), group("SHUT", 0, 0, 0)] };
  expect(gateTotals(answer)).toEqual({ total: 56, inward: 52, outward: 4 });
});

test("the ledger's difference is what is unaccounted for", () => {
  const frames = { received: 10, windowed: 4, merged_late: 1, duplicate: 1, quarantined: 1, shed: 1, lost_before_journal: 7 };
  const ledger: Ledger = { balanced: false, journal_frames: 10, total: { frames, samples: { quarantined: 3 }, quarantined_by_reason: {} }, complete_through: null };
  expect(ledgerDifference(ledger)).toBe(2);
});

test("rates look back no further than the port has been heard", () => {
  expect([0, 61, 125, 899, 86_400].map(rateWindow)).toEqual([60, 70, 130, 900, 900]);
});

const at = (second: number, mean: number): Point => ({
  time: `2026-11-23T08:00:${String(second).padStart(2, "0")}Z`,
  count: 5,
  mean,
  min: mean - 1,
  max: mean + 1,
  sum: 5 * mean,
});

test("no line is drawn through a silence", () => {
  const [times, max, min, mean] = columnsOf([at(0, 1), at(10, 2), at(50, 3)], false);
  expect(times.map((time) => time - times[0]!)).toEqual([0, 10, 20, 50]);
  expect(mean).toEqual([1, 2, null, 3]);
  expect(max).toEqual([2, 3, null, 4]);
  expect(min).toEqual([0, 1, null, 2]);
});

test("a tally is its sum", () => {
  expect(columnsOf([at(0, 1), at(50, 3)], true)[1]).toEqual([5, 15]);
});

test("the y range has height, whatever the data", () => {
  expect(yRange(null, null, false, false)).toEqual([0, 1]);
  const [low, high] = yRange(5, 5, false, false);
  expect(low).toBeLessThan(5);
  expect(high).toBeGreaterThan(5);
  expect(yRange(0, 0, true, false)).toEqual([0, 1]);
});

test("marks of an axis differ, whatever the range", () => {
  expect(digitsOf([0, 5, 10])).toBe(0);
  expect(digitsOf([1.99, 1.995, 2])).toBe(3);
  expect(digitsOf([121.8301, 121.8302])).toBe(4);
  expect(digitsOf([-8.4, -8.2])).toBe(1);
  expect(digitsOf([])).toBe(2);
  const [low, high] = yRange(2, 2, false, false);
  expect(high - low).toBeCloseTo(0.2);
});

test("a value that stands alone is drawn, a line has no dots", () => {
  expect(lonePoints([1])).toEqual([0]);
  expect(lonePoints([1, 2, null, 3, null, 4, 5])).toEqual([3]);
  expect(lonePoints([null, 0, null])).toEqual([1]);
  expect(lonePoints([])).toEqual([]);
});

test("the CSV names the unit and keeps every digit", () => {
  const text = csvOf({ ...frame, device: "QC01", uid: "u", metric: "load_t", unit: "t", resolution: 0.001, kind: "gauge", points: [at(0, 1.0625)] });
  expect(text).toBe(
    "time,count,mean_load_t (t),min_load_t (t),max_load_t (t),sum_load_t (t)\r\n2026-11-23T08:00:00Z,5,1.0625,0.0625,2.0625,5.3125\r\n",
  );
});

test("pauses before a new connection grow, are jittered and bounded", () => {
  expect(pauseBefore(0, 0.5)).toBe(500);
  expect(pauseBefore(3, 0.5)).toBe(4_000);
  for (const attempt of [0, 5, 1_000]) {
    expect(pauseBefore(attempt, 0)).toBeGreaterThanOrEqual(375);
    expect(pauseBefore(attempt, 1)).toBeLessThanOrEqual(10_000);
  }
});

test("a port is quiet when nothing has come for a while, not when a message is awaited", () => {
  const none = Array.from({ length: 15 }, () => 0);
  expect(isQuiet(none)).toBe(true);
  expect(isQuiet([1, ...none])).toBe(true);
  expect(isQuiet([...none, 1])).toBe(false);
  expect(isQuiet(none.slice(1))).toBe(false);
});
