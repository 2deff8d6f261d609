import { expect, test } from "vitest";

import type { Device } from "../src/answers";
import { blockOf, derive, isNear, placeOf } from "../src/layout";
import { poseOf } from "../src/machines";
import { Port } from "../src/port";
import { Roads } from "../src/roads";

function device(deviceClass: string, id: string, values: Record<string, number>, info: Device["info"]): Device {
  const time = "2026-11-23T08:00:00Z";
  return {
    id,
    uid: `CNNGB-DEMO/${deviceClass}/${id}`,
    site: "CNNGB-DEMO",
    class: deviceClass,
    online: true,
    state: "live",
    first_seen: time,
    last_seen: time,
    latest: Object.fromEntries(Object.entries(values).map(([metric, value]) => [metric, { value, unit: "m", time }])),
    info,
    quarantined: {},
  };
}

function small(): Port {
  const port = new Port();
  port.takeDevices(
    [
      device("quay-crane", "QC01", { gantry_position_m: 110, trolley_position_m: 30, hoist_height_m: 12 }, {}),
      device("quay-crane", "QC02", { gantry_position_m: 300 }, {}),
      device("yard-crane", "YC01", { gantry_position_m: 90, trolley_position_m: 4 }, { block: "B01", x0_m: 10, x1_m: 190, lane_y_m: 84, rows: 6 }),
      device("rfid-gate", "GATE-IN-1", {}, { x_m: 352, y_m: 339, direction: "in" }),
      device("vehicle", "YT01", { x_m: 100, y_m: 8 }, { kind: "yard-truck" }),
      device("vehicle", "LOST", { x_m: 90_000, y_m: -4_000 }, {}),
    ],
    0,
  );
  return port;
}

test("the plan is turned, not mirrored: x grows to the left, inland is down", () => {
  const port = small();
  const pose = (uid: string): { x: number; y: number } => {
    const found = port.devices.get(`CNNGB-DEMO/${uid}`)!;
    return poseOf(found, found.track?.at(1e6) ?? null, 0)!.at;
  };
  expect(pose("quay-crane/QC01").x).toBeGreaterThan(pose("quay-crane/QC02").x);
  expect(pose("rfid-gate/GATE-IN-1").y).toBeGreaterThan(pose("vehicle/YT01").y);
});

test("the layout is what devices say of themselves", () => {
  const layout = derive(small().devices.values())!;
  expect(layout.blocks).toEqual([{ name: "B01", laneY: 84, box: { x: -190, y: 84 + 1.45, width: 180, height: 6 * 2.9 } }]);
  expect(layout.lanes.map((lane) => [lane.name, lane.direction, lane.at])).toEqual([["GATE-IN-1", "in", { x: -352, y: 339 }]]);
  expect(layout.quay!.left).toBeLessThanOrEqual(-360);
  expect(layout.quay!.right).toBeGreaterThanOrEqual(-50);
});

test("a vehicle far away does not shrink the port", () => {
  const { bounds } = derive(small().devices.values())!;
  expect(bounds.width).toBeLessThan(600);
  expect(bounds.height).toBeLessThan(600);
});

test("where vehicles have been stays in view, with a margin, until they are far away", () => {
  const devices = [...small().devices.values()];
  const driven = [{ x: -300, y: 510 }, { x: -300, y: 2_000 }];
  const { bounds } = derive(devices, driven)!;
  expect(bounds.y + bounds.height).toBeGreaterThan(510 + 10);
  expect(bounds.y + bounds.height).toBeLessThan(560);
  expect(isNear(derive(devices)!, driven[0]!)).toBe(true);
  expect(isNear(derive(devices)!, driven[1]!)).toBe(false);
});

test("vehicles alone are a layout, nothing is none", () => {
  const port = new Port();
  expect(derive(port.devices.values())).toBeNull();
  port.takeLive({ site: "CNNGB-DEMO", class: "vehicle", time: "", values: { "T-001": { x_m: 120, y_m: 60 } } }, 0);
  expect(derive(port.devices.values())!.quay).toBeNull();
});

test("incomplete or foreign info places nothing", () => {
  const port = new Port();
  port.takeDevices([device("yard-crane", "YC01", {}, { x0_m: 1, x1_m: "wide" }), device("rfid-gate", "G", {}, { x_m: 1 })], 0);
  expect(blockOf(port.devices.get("CNNGB-DEMO/yard-crane/YC01")!)).toBeNull();
  expect(placeOf(port.devices.get("CNNGB-DEMO/rfid-gate/G")!)).toBeNull();
});

test("roads are where vehicles drove, not where they stood or jumped", () => {
  const roads = new Roads();
  for (const x of [0, 8, 16, 16, 16, 500]) roads.drive("T", { x, y: 1 });
  expect([...roads.corners()]).toEqual([0, 4, 8, 12, 16].map((x) => ({ x, y: 0 })));
});
