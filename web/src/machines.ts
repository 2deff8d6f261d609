/** The moving part of the map: cranes, trucks, and what a lane shows when a truck has passed. */

import { clamp, toScreen, type Point, type Rect, type View } from "./geometry";
import { FONT, LANE_LENGTH_M, LANE_WIDTH_M, RAILS_M } from "./ground";
import { CRANE_REACH, blockOf, placeOf, plan } from "./layout";
import type { Palette } from "./palette";
import type { PortDevice } from "./port";

/** Where a machine is drawn at one moment, in plan metres; `angle` is its direction on screen (radians). */
export interface Pose {
  readonly at: Point;
  readonly angle: number;
  /** Quay crane: trolley from the quay edge, + towards the ship. Yard crane: from the truck lane over the stacks. m */
  readonly trolley: number;
  readonly hoist: number;
}

export interface Brush {
  readonly context: CanvasRenderingContext2D;
  readonly view: View;
  readonly palette: Palette;
}

const TRUCK_M = { length: 16, width: 3 } as const;
const CRANE_HALF_WIDTH_M = 12;
const GIRDER_HALF_M = 2.6;
const CONTAINER_M = { length: 12.2, width: 2.5 } as const;
const GANTRY_HALF_LENGTH_M = 6;

/** Full hoist height for the little gauge beside the trolley, m above the quay. */
const HOIST_TOP_M = 40;

export const isLaden = (device: PortDevice): boolean =>
  device.class === "vehicle" ? (device.values.get("laden") ?? 0) >= 0.5 : (device.values.get("spreader_locked") ?? 0) >= 0.5;

/** Whether a vehicle comes from outside the terminal: its info says so. */
export const isExternal = (device: PortDevice): boolean => device.info["kind"] === "external-truck";

/** The area of a machine that answers to the pointer, plan metres. */
export function boxOf(device: PortDevice, pose: Pose): Rect {
  const { x, y } = pose.at;
  if (device.class === "quay-crane") {
    return { x: x - CRANE_HALF_WIDTH_M, y: CRANE_REACH.water, width: 2 * CRANE_HALF_WIDTH_M, height: CRANE_REACH.land - CRANE_REACH.water };
  }
  if (device.class === "yard-crane") {
    const block = blockOf(device);
    const height = (block?.box.height ?? 20) + 8;
    return { x: x - GANTRY_HALF_LENGTH_M, y: y - height / 2 - 2, width: 2 * GANTRY_HALF_LENGTH_M, height };
  }
  if (device.class === "rfid-gate") {
    return { x: x - LANE_WIDTH_M / 2, y: y - LANE_LENGTH_M / 2, width: LANE_WIDTH_M, height: LANE_LENGTH_M };
  }
  const half = device.class === "vehicle" ? TRUCK_M.length / 2 : 3;
  return { x: x - half, y: y - half, width: 2 * half, height: 2 * half };
}

/** The pose of a device from its track's interpolated channels; null if it is not on the map. */
export function poseOf(device: PortDevice, channels: readonly number[] | null, angle: number): Pose | null {
  const [first, second, third] = channels ?? [];
  if (device.class === "vehicle") {
    if (first === undefined || second === undefined) return null;
    return { at: plan(first, second), angle, trolley: 0, hoist: 0 };
  }
  if (device.class === "quay-crane") {
    if (first === undefined) return null;
    return { at: plan(first, 0), angle, trolley: second ?? 0, hoist: third ?? 0 };
  }
  if (device.class === "yard-crane") {
    const block = blockOf(device);
    if (!block || first === undefined) return null;
    return { at: { x: plan(first, 0).x, y: block.box.y + block.box.height / 2 }, angle, trolley: second ?? 0, hoist: third ?? 0 };
  }
  const at = placeOf(device);
  return at && { at, angle, trolley: 0, hoist: 0 };
}

export function drawTrail({ context, view, palette }: Brush, points: readonly Point[], strong: boolean): void {
  if (points.length < 2) return;
  context.strokeStyle = palette.trail;
  context.lineWidth = strong ? 2.5 : 1.5;
  context.lineJoin = "round";
  context.lineCap = "round";
  for (let index = 1; index < points.length; index += 1) {
    const from = toScreen(view, points[index - 1]!);
    const to = toScreen(view, points[index]!);
    context.globalAlpha = (strong ? 0.9 : 0.45) * (index / points.length);
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }
  context.globalAlpha = 1;
}

export function drawTruck({ context, view, palette }: Brush, device: PortDevice, pose: Pose): void {
  const at = toScreen(view, pose.at);
  const length = Math.max(11, TRUCK_M.length * view.scale);
  const width = Math.max(4.5, TRUCK_M.width * view.scale);
  const external = isExternal(device);
  const cab = length * 0.24;
  const colour = device.state === "live" ? (external ? palette.externalTruck : palette.yardTruck) : palette.stale;
  context.save();
  context.translate(at.x, at.y);
  context.rotate(pose.angle);
  // The bed first, then what it carries, then the cab in front.
  context.fillStyle = colour;
  if (isLaden(device)) {
    context.globalAlpha = device.state === "live" ? 1 : 0.6;
    context.fillStyle = palette.laden;
    context.fillRect(-length / 2, -width / 2, length - cab - 1, width);
    context.strokeStyle = palette.ladenEdge;
    context.lineWidth = 0.75;
    context.strokeRect(-length / 2, -width / 2, length - cab - 1, width);
  } else {
    context.globalAlpha = 0.8;
    context.fillRect(-length / 2, -width * 0.16, length - cab, width * 0.32);
    context.fillRect(-length / 2, -width / 2, Math.max(1.5, length * 0.1), width);
  }
  context.globalAlpha = 1;
  context.fillStyle = colour;
  if (external) {
    // A pointed cab: the two kinds differ in shape, not only in colour.
    context.beginPath();
    context.moveTo(length / 2 - cab, -width * 0.62);
    context.lineTo(length / 2 + 1, 0);
    context.lineTo(length / 2 - cab, width * 0.62);
    context.closePath();
    context.fill();
  } else {
    context.fillRect(length / 2 - cab, -width / 2, cab, width);
  }
  context.restore();
}

export function drawQuayCrane(brush: Brush, device: PortDevice, pose: Pose): void {
  const { context, view, palette } = brush;
  const scale = view.scale;
  const live = device.state === "live";
  const x = pose.at.x * scale + view.offsetX;
  const screenY = (metres: number): number => metres * scale + view.offsetY;
  const steel = live ? palette.steel : palette.stale;
  const line = clamp(1.1 * scale, 1.5, 6);
  context.strokeStyle = steel;
  context.fillStyle = steel;
  // Girders from over the ship to behind the landside rail.
  context.lineWidth = line;
  const girder = Math.max(3, GIRDER_HALF_M * scale);
  context.beginPath();
  for (const side of [-girder, girder]) {
    context.moveTo(x + side, screenY(CRANE_REACH.water));
    context.lineTo(x + side, screenY(CRANE_REACH.land));
  }
  context.moveTo(x - girder, screenY(CRANE_REACH.water));
  context.lineTo(x + girder, screenY(CRANE_REACH.water));
  context.moveTo(x - girder, screenY(CRANE_REACH.land));
  context.lineTo(x + girder, screenY(CRANE_REACH.land));
  context.stroke();
  // Portal: sill beams on both rails, a leg at each corner.
  const half = CRANE_HALF_WIDTH_M * scale;
  const leg = clamp(3.2 * scale, 4, 16);
  for (const rail of RAILS_M) {
    const y = screenY(rail);
    context.fillRect(x - half, y - line / 2, 2 * half, line);
    for (const side of [-half, half]) context.fillRect(x + side - leg / 2, y - leg / 2, leg, leg);
  }
  drawSpreader(brush, device, x, screenY(-pose.trolley), pose.hoist);
  label(brush, device.id, x, screenY(CRANE_REACH.water) - 8, live);
}

export function drawYardCrane(brush: Brush, device: PortDevice, pose: Pose): void {
  const block = blockOf(device);
  if (!block) return;
  const { context, view, palette } = brush;
  const scale = view.scale;
  const live = device.state === "live";
  const x = pose.at.x * scale + view.offsetX;
  // The portal spans the stacks and the truck lane beside them.
  const top = (block.laneY - 2.5) * scale + view.offsetY;
  const bottom = (block.box.y + block.box.height) * scale + view.offsetY + Math.max(3, 2 * scale);
  const half = Math.max(4, (GANTRY_HALF_LENGTH_M - 1.5) * scale);
  const line = clamp(0.9 * scale, 1.5, 5);
  context.strokeStyle = live ? palette.steel : palette.stale;
  context.lineWidth = line;
  context.beginPath();
  for (const side of [-half, half]) {
    context.moveTo(x + side, top);
    context.lineTo(x + side, bottom);
  }
  for (const end of [top, bottom]) {
    context.moveTo(x - half - line, end);
    context.lineTo(x + half + line, end);
  }
  context.stroke();
  drawSpreader(brush, device, x, (block.laneY + pose.trolley) * scale + view.offsetY, pose.hoist);
  if (scale > 1.6) label(brush, device.id, x, top - 3, live);
}

/** Trolley with what hangs below it: a full box when locked, an outline when not; beside it how high it hangs. */
function drawSpreader({ context, view, palette }: Brush, device: PortDevice, x: number, y: number, hoist: number): void {
  const live = device.state === "live";
  const locked = isLaden(device);
  const length = Math.max(12, CONTAINER_M.length * view.scale);
  const width = Math.max(5, CONTAINER_M.width * view.scale);
  const size = device.values.get("spreader_size_ft") ?? 40;
  const shown = size > 0 && size < 30 && (device.values.get("spreader_twin") ?? 0) < 0.5 ? length * 0.6 : length;
  context.globalAlpha = live ? 1 : 0.6;
  context.fillStyle = locked ? palette.laden : palette.empty;
  context.fillRect(x - shown / 2, y - width / 2, shown, width);
  context.strokeStyle = locked ? palette.ladenEdge : live ? palette.steel : palette.stale;
  context.lineWidth = locked ? 1 : 1.5;
  context.strokeRect(x - shown / 2, y - width / 2, shown, width);
  context.globalAlpha = 1;
  if (device.class === "quay-crane" && view.scale > 0.7) {
    const tall = clamp(16 * view.scale, 14, 34);
    const gaugeX = Math.round(x + length / 2 + 5);
    const share = clamp(hoist / HOIST_TOP_M, 0, 1);
    context.fillStyle = palette.blockLine;
    context.fillRect(gaugeX, y - tall / 2, 3, tall);
    context.fillStyle = locked ? palette.laden : palette.steel;
    context.fillRect(gaugeX - 1.5, y + tall / 2 - share * tall - 1.5, 6, 3);
  }
}

/** A lane that a truck has just passed glows and fades; with reduced motion it glows for as long and stops. */
export function drawPassage({ context, view, palette }: Brush, at: Point, ageMs: number, still: boolean): void {
  const share = 1 - ageMs / FLASH_MS;
  if (share <= 0) return;
  const pixel = toScreen(view, at);
  const width = Math.max(7, LANE_WIDTH_M * view.scale) + 6;
  const length = Math.max(18, LANE_LENGTH_M * view.scale) + 6;
  context.globalAlpha = still ? 0.9 : share;
  context.fillStyle = palette.flash;
  context.fillRect(pixel.x - width / 2, pixel.y - length / 2, width, length);
  context.globalAlpha = 1;
}

export const FLASH_MS = 2_500;

/** A frame around the chosen or pointed-at device. */
export function drawFrame({ context, view, palette }: Brush, box: Rect, chosen: boolean): void {
  const at = toScreen(view, box);
  const pad = 5;
  const [left, top] = [at.x - pad, at.y - pad];
  const [width, height] = [box.width * view.scale + 2 * pad, box.height * view.scale + 2 * pad];
  const corner = Math.min(10, width / 3, height / 3);
  context.strokeStyle = palette.selected;
  context.globalAlpha = chosen ? 1 : 0.55;
  context.lineWidth = chosen ? 2 : 1.5;
  context.beginPath();
  for (const [x, y, dx, dy] of [
    [left, top, 1, 1],
    [left + width, top, -1, 1],
    [left, top + height, 1, -1],
    [left + width, top + height, -1, -1],
  ] as const) {
    context.moveTo(x + dx * corner, y);
    context.lineTo(x, y);
    context.lineTo(x, y + dy * corner);
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** A name with a halo, so that it reads on water, blocks and machines alike. */
export function label({ context, palette }: Brush, text: string, x: number, y: number, live = true): void {
  context.font = `600 11px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.lineWidth = 3;
  context.strokeStyle = palette.ground;
  context.lineJoin = "round";
  context.strokeText(text, x, y);
  context.fillStyle = live ? palette.label : palette.faintLabel;
  context.fillText(text, x, y);
}

/** A fixed sensor: a small diamond. */
export function drawSensor({ context, view, palette }: Brush, device: PortDevice, pose: Pose): void {
  const at = toScreen(view, pose.at);
  const size = clamp(3 * view.scale, 4, 9);
  context.fillStyle = device.state === "live" ? palette.laneIn : palette.stale;
  context.beginPath();
  context.moveTo(at.x, at.y - size);
  context.lineTo(at.x + size, at.y);
  context.lineTo(at.x, at.y + size);
  context.lineTo(at.x - size, at.y);
  context.closePath();
  context.fill();
}
