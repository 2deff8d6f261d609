import { expect, test } from "vitest";

import { Track } from "../src/motion";

/** A truck at 8 m/s along x, reported each 500 ms. */
function driven(updates: number): Track {
  const track = new Track(150);
  for (let index = 0; index < updates; index += 1) track.push(index * 500, [index * 4, 10]);
  return track;
}

test("a track is drawn between its updates, never ahead of the newest", () => {
  const track = driven(20);
  let before = -1;
  for (let now = 8_000; now <= 12_000; now += 16) {
    const [x, y] = track.at(now)!;
    expect(x).toBeGreaterThanOrEqual(before);
    expect(x! - before).toBeLessThan(before < 0 ? Infinity : 0.2);
    expect(x).toBeLessThanOrEqual(76);
    expect(y).toBe(10);
    before = x!;
  }
  expect(before).toBe(76);
});

test("no update, no place", () => {
  expect(new Track(150).at(0)).toBeNull();
  expect(new Track(150).course(0)).toBeNull();
});

test("a jump is not driven", () => {
  const track = new Track(150);
  track.push(0, [0, 0]);
  track.push(500, [4_000, 0]);
  const seen = new Set<number>();
  for (let now = 0; now < 3_000; now += 50) seen.add(track.at(now)![0]!);
  expect([...seen]).toEqual([0, 4_000]);
});

test("after a long standstill a motion begins now, not back then", () => {
  const track = driven(10);
  track.push(60_000, [40, 10]);
  const atOnce = track.at(60_000)![0]!;
  expect(atOnce).toBe(36);
});

test("the course is the direction of the latest motion and survives a standstill", () => {
  const track = driven(10);
  for (let index = 10; index < 14; index += 1) track.push(index * 500, [36, 10]);
  expect(track.course(10_000)).toBeCloseTo(0, 9);
});

test("updates of the past are ignored and memory is bounded", () => {
  const track = driven(5_000);
  track.push(10, [9, 9]);
  expect(track.newest).toEqual([4 * 4_999, 10]);
  expect(track.trail(1e9, Infinity).length).toBeLessThanOrEqual(64);
});
