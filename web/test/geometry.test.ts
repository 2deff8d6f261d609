import { describe, expect, test } from "vitest";

import { boundsOf, clamp, fit, hit, keepInSight, roundLength, toMetres, toScreen, turn, zoomAt, type Target } from "../src/geometry";

const view = { scale: 2, offsetX: 30, offsetY: -10 };

describe("view", () => {
  test("screen and metres are each other's inverse", () => {
    for (const point of [{ x: 0, y: 0 }, { x: -712.5, y: 384 }, { x: 1e5, y: -3 }]) {
      const back = toMetres(view, toScreen(view, point));
      expect(back.x).toBeCloseTo(point.x, 6);
      expect(back.y).toBeCloseTo(point.y, 6);
    }
  });

  test("zooming keeps the metre under the pointer", () => {
    const pixel = { x: 411, y: 97 };
    const before = toMetres(view, pixel);
    const after = toMetres(zoomAt(view, pixel, 1.7), pixel);
    expect(after.x).toBeCloseTo(before.x, 6);
    expect(after.y).toBeCloseTo(before.y, 6);
  });

  test("fit shows all of the bounds in the middle", () => {
    const bounds = { x: -700, y: -60, width: 760, height: 480 };
    const found = fit(bounds, 958, 622, { top: 14, bottom: 40, side: 14 });
    const topLeft = toScreen(found, bounds);
    const bottomRight = toScreen(found, { x: bounds.x + bounds.width, y: bounds.y + bounds.height });
    expect(topLeft.x).toBeGreaterThanOrEqual(13.99);
    expect(topLeft.y).toBeGreaterThanOrEqual(13.99);
    expect(bottomRight.x).toBeLessThanOrEqual(958 - 13.99);
    expect(bottomRight.y).toBeLessThanOrEqual(622 - 39.99);
    expect(topLeft.x + bottomRight.x).toBeCloseTo(958, 6);
  });

  test("the port cannot be dragged out of sight", () => {
    const bounds = { x: 0, y: 0, width: 100, height: 100 };
    const lost = { scale: 2, offsetX: 5000, offsetY: -4000 };
    const found = keepInSight(lost, bounds, 800, 600);
    expect(found.offsetX).toBe(600);
    expect(found.offsetY + 200).toBe(150);
    expect(keepInSight(view, bounds, 800, 600)).toBe(view);
  });
});

describe("hit", () => {
  const targets: Target<string>[] = [
    { item: "crane", box: { x: 0, y: 0, width: 24, height: 100 } },
    { item: "truck", box: { x: 4, y: 40, width: 16, height: 3 } },
  ];

  test("the smaller of two that contain the pixel wins", () => {
    expect(hit(targets, view, toScreen(view, { x: 10, y: 41 }), 8)).toBe("truck");
    expect(hit(targets, view, toScreen(view, { x: 10, y: 90 }), 8)).toBe("crane");
  });

  test("a near miss counts within reach, and only there", () => {
    const beside = toScreen(view, { x: 27, y: 50 });
    expect(hit(targets, view, beside, 8)).toBe("crane");
    expect(hit(targets, view, beside, 5)).toBeNull();
  });
});

test("round lengths are 1, 2 or 5 times a power of ten and fit", () => {
  expect(roundLength(1, 130)).toBe(100);
  expect(roundLength(0.5, 130)).toBe(200);
  expect(roundLength(2, 130)).toBe(50);
  expect(roundLength(40, 120)).toBe(2);
});

test("a turn goes the shorter way round", () => {
  expect(turn(0.1, 2 * Math.PI - 0.1)).toBeCloseTo(-0.2, 9);
  expect(turn(3, -3)).toBeCloseTo(2 * Math.PI - 6, 9);
  expect(Math.abs(turn(0, Math.PI))).toBeCloseTo(Math.PI, 9);
});

test("bounds of nothing are null", () => {
  expect(boundsOf([])).toBeNull();
  expect(boundsOf([{ x: 1, y: 2 }])).toEqual({ x: 1, y: 2, width: 0, height: 0 });
  expect(clamp(5, 0, 3)).toBe(3);
});
