/** Pure geometry of the map: local metres (x along the quay, y inland) to screen pixels and back. */

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** screen = metres × scale + offset; `scale` in px/m. The y axis is not turned: inland is down, the quay on top. */
export interface View {
  readonly scale: number;
  readonly offsetX: number;
  readonly offsetY: number;
}

export const MIN_SCALE = 0.02;
export const MAX_SCALE = 40;

export const toScreen = (view: View, point: Point): Point => ({
  x: point.x * view.scale + view.offsetX,
  y: point.y * view.scale + view.offsetY,
});

export const toMetres = (view: View, pixel: Point): Point => ({
  x: (pixel.x - view.offsetX) / view.scale,
  y: (pixel.y - view.offsetY) / view.scale,
});

/** Pixels that are kept free along the edges of a canvas. */
export interface Margins {
  readonly top: number;
  readonly bottom: number;
  readonly side: number;
}

/** The view that shows all of `bounds` in the middle of what the margins leave of a canvas of `width` × `height` px. */
export function fit(bounds: Rect, width: number, height: number, { top, bottom, side }: Margins): View {
  const scale = clamp(
    Math.min(
      Math.max(1, width - 2 * side) / Math.max(1, bounds.width),
      Math.max(1, height - top - bottom) / Math.max(1, bounds.height),
    ),
    MIN_SCALE,
    MAX_SCALE,
  );
  return {
    scale,
    offsetX: width / 2 - (bounds.x + bounds.width / 2) * scale,
    offsetY: (top + height - bottom) / 2 - (bounds.y + bounds.height / 2) * scale,
  };
}

/** Zoom by `factor` so that the metre under `pixel` stays under it. */
export function zoomAt(view: View, pixel: Point, factor: number): View {
  const scale = clamp(view.scale * factor, MIN_SCALE, MAX_SCALE);
  const anchor = toMetres(view, pixel);
  return { scale, offsetX: pixel.x - anchor.x * scale, offsetY: pixel.y - anchor.y * scale };
}

export const pan = (view: View, dx: number, dy: number): View => ({
  scale: view.scale,
  offsetX: view.offsetX + dx,
  offsetY: view.offsetY + dy,
});

/** Keep at least a quarter of the canvas on `bounds`, so that nobody loses the port by dragging. */
export function keepInSight(view: View, bounds: Rect, width: number, height: number): View {
  const left = bounds.x * view.scale + view.offsetX;
  const right = left + bounds.width * view.scale;
  const top = bounds.y * view.scale + view.offsetY;
  const bottom = top + bounds.height * view.scale;
  const marginX = width / 4;
  const marginY = height / 4;
  let dx = 0;
  let dy = 0;
  if (right < marginX) dx = marginX - right;
  else if (left > width - marginX) dx = width - marginX - left;
  if (bottom < marginY) dy = marginY - bottom;
  else if (top > height - marginY) dy = height - marginY - top;
  return dx || dy ? pan(view, dx, dy) : view;
}

/** The smallest rectangle around the points, or null for none. */
export function boundsOf(points: Iterable<Point>): Rect | null {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return left <= right && top <= bottom ? { x: left, y: top, width: right - left, height: bottom - top } : null;
}

export const grown = (rect: Rect, by: number): Rect => ({
  x: rect.x - by,
  y: rect.y - by,
  width: rect.width + 2 * by,
  height: rect.height + 2 * by,
});

export const contains = (rect: Rect, point: Point): boolean =>
  point.x >= rect.x && point.x <= rect.x + rect.width && point.y >= rect.y && point.y <= rect.y + rect.height;

/** Something on the map that can be pointed at; a rectangle in metres. */
export interface Target<T> {
  readonly item: T;
  readonly box: Rect;
}

/**
 * The target under a pixel: the smallest box that contains it, else the nearest one within `reachPx`.
 *
 * Small wins because a truck may stand under a crane; the reach makes a 10 px truck easy to hit.
 */
export function hit<T>(targets: Iterable<Target<T>>, view: View, pixel: Point, reachPx: number): T | null {
  const at = toMetres(view, pixel);
  let best: { item: T; rank: number } | null = null;
  for (const { item, box } of targets) {
    const dx = Math.max(box.x - at.x, 0, at.x - box.x - box.width);
    const dy = Math.max(box.y - at.y, 0, at.y - box.y - box.height);
    const distance = Math.hypot(dx, dy) * view.scale;
    if (distance > reachPx) continue;
    // Inside ranks by area (below zero: before any near miss), outside by distance.
    const rank = distance === 0 ? -1 / (1 + box.width * box.height) : distance;
    if (best === null || rank < best.rank) best = { item, rank };
  }
  return best === null ? null : best.item;
}

/** A round length in metres (1, 2 or 5 × 10ⁿ) that is at most `maxPx` wide on screen. */
export function roundLength(scale: number, maxPx: number): number {
  const limit = maxPx / scale;
  const power = 10 ** Math.floor(Math.log10(limit));
  for (const step of [5, 2, 1]) if (step * power <= limit) return step * power;
  return power;
}

/** The angle from `from` to `to` by the shorter way round, in radians within (−π, π]. */
export function turn(from: number, to: number): number {
  const difference = (to - from) % (2 * Math.PI);
  if (difference > Math.PI) return difference - 2 * Math.PI;
  if (difference <= -Math.PI) return difference + 2 * Math.PI;
  return difference;
}

export const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));
