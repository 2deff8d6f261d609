/**
 * The fixed things of a port, derived from what devices say of themselves in their status info: blocks, lanes, quay.
 *
 * The plan is drawn as seen from above with the quay on top. Inland (+y) is then down, and +x (its right-hand
 * neighbour) points left: a plan with +x to the right would be a mirror image, with the traffic on the wrong side.
 */

import type { Point, Rect } from "./geometry";
import { boundsOf, contains, grown } from "./geometry";
import type { PortDevice } from "./port";

/** Local metres to plan metres: turned by half a turn about the quay's origin line, then y down the screen. */
export const plan = (x: number, y: number): Point => ({ x: -x, y });

export interface Block {
  readonly name: string;
  /** The stacks; the truck lane runs along them at `laneY`. */
  readonly box: Rect;
  readonly laneY: number;
}

export interface Lane {
  readonly uid: string;
  readonly name: string;
  readonly at: Point;
  readonly direction: "in" | "out" | "";
}

export interface Layout {
  readonly blocks: readonly Block[];
  readonly lanes: readonly Lane[];
  /** The quay edge from and to (plan metres, left to right); null where there is no quay crane. */
  readonly quay: { readonly left: number; readonly right: number } | null;
  /** What the map fits to the canvas, plan metres. */
  readonly bounds: Rect;
  /** A vehicle within it is shown, whatever widens `bounds` for it; null is everywhere. */
  readonly reach: Rect | null;
}

/** Where quay cranes work, in metres from the quay edge: over the ship (−) to behind the landside rail (+). */
export const CRANE_REACH = { water: -52, land: 48 } as const;

const QUAY_MARGIN_M = 60;
const MARGIN_M = 14;
/** Vehicles this far from fixed things still widen the view; a stray reading from elsewhere must not shrink the port. */
const NEAR_M = 250;

const numeric = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** Where a device stands for good, or null: `x_m`, `y_m` of its info. */
export function placeOf(device: PortDevice): Point | null {
  const x = numeric(device.info["x_m"]);
  const y = numeric(device.info["y_m"]);
  return x === null || y === null ? null : plan(x, y);
}

/** Width of a row of containers with its clearance, m. */
export const ROW_M = 2.9;

/** The block that a yard crane serves, from `x0_m`, `x1_m`, `lane_y_m` and `rows` of its info, or null. */
export function blockOf(device: PortDevice): Block | null {
  const [from, to, lane, rows] = ["x0_m", "x1_m", "lane_y_m", "rows"].map((name) => numeric(device.info[name]));
  if (from == null || to == null || lane == null || rows == null) return null;
  const name = device.info["block"];
  const box = {
    x: plan(Math.max(from, to), 0).x,
    y: lane + ROW_M / 2,
    width: Math.abs(to - from),
    height: Math.max(1, rows) * ROW_M,
  };
  return { name: typeof name === "string" ? name : "", box, laneY: lane };
}

/**
 * Derive the layout from all devices; null while nothing has a place.
 *
 * `driven` are places where vehicles have been (plan metres): who drives there once will drive there again.
 */
export function derive(devices: Iterable<PortDevice>, driven: Iterable<Point> = []): Layout | null {
  const blocks = new Map<string, Block>();
  const lanes: Lane[] = [];
  const cranesAt: number[] = [];
  const vehicles: Point[] = [...driven];
  const fixed: Point[] = [];
  for (const device of devices) {
    const block = device.class === "yard-crane" ? blockOf(device) : null;
    if (block) {
      blocks.set(block.name || device.uid, block);
      fixed.push({ x: block.box.x, y: block.box.y });
      fixed.push({ x: block.box.x + block.box.width, y: block.box.y + block.box.height });
    } else if (device.class === "quay-crane") {
      const x = device.values.get("gantry_position_m") ?? numeric(device.info["x_m"]);
      if (x !== null) cranesAt.push(plan(x, 0).x);
    } else if (device.class === "vehicle") {
      const [x, y] = [device.values.get("x_m"), device.values.get("y_m")];
      if (x !== undefined && y !== undefined) vehicles.push(plan(x, y));
    } else {
      const at = placeOf(device);
      if (!at) continue;
      fixed.push(at);
      if (device.class === "rfid-gate") {
        const direction = device.info["direction"];
        const name = typeof device.info["lane"] === "string" ? device.info["lane"] : device.id;
        lanes.push({ uid: device.uid, name, at, direction: direction === "in" || direction === "out" ? direction : "" });
      }
    }
  }
  for (const x of cranesAt) fixed.push({ x, y: CRANE_REACH.water }, { x, y: CRANE_REACH.land });
  return assemble([...blocks.values()], lanes, cranesAt, fixed, vehicles);
}

/** Whether a vehicle at a place belongs to the port that is shown. */
export const isNear = (layout: Layout, at: Point): boolean => layout.reach === null || contains(layout.reach, at);

function assemble(
  blocks: readonly Block[],
  lanes: readonly Lane[],
  cranesAt: readonly number[],
  fixed: readonly Point[],
  vehicles: readonly Point[],
): Layout | null {
  const fixedBounds = boundsOf(fixed);
  const near = fixedBounds ? grown(fixedBounds, NEAR_M) : null;
  const bounds = boundsOf([...fixed, ...vehicles.filter((at) => near === null || contains(near, at))]);
  if (!bounds) return null;
  // The quay runs along all that lies behind it, and some way past the outermost cranes.
  const quay = cranesAt.length
    ? {
        left: Math.min(Math.min(...cranesAt) - QUAY_MARGIN_M, fixedBounds ? fixedBounds.x : Infinity),
        right: Math.max(Math.max(...cranesAt) + QUAY_MARGIN_M, fixedBounds ? fixedBounds.x + fixedBounds.width : -Infinity),
      }
    : null;
  const wide = quay ? boundsOf([bounds, corner(bounds), { x: quay.left, y: 0 }, { x: quay.right, y: 0 }]) : bounds;
  return { blocks, lanes, quay, bounds: grown(wide ?? bounds, MARGIN_M), reach: near };
}

const corner = (rect: Rect): Point => ({ x: rect.x + rect.width, y: rect.y + rect.height });
