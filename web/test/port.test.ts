import { expect, test } from "vitest";

import type { Device, DeviceName, PortEvent, WorkerStatus } from "../src/answers";
import { matching } from "../src/devicelist";
import { Port } from "../src/port";
import { UnknownNames } from "../src/unknownnames";

const live = (values: Record<string, Record<string, number>>) => ({ site: "CNNGB-DEMO", class: "vehicle", time: "", values });

const listed = (id: string, state: Device["state"], info: Device["info"] = {}): Device => ({
  id,
  uid: `CNNGB-DEMO/vehicle/${id}`,
  site: "CNNGB-DEMO",
  class: "vehicle",
  online: state !== "offline",
  state,
  first_seen: "2026-11-23T08:00:00Z",
  last_seen: "2026-11-23T08:02:00.123456789Z",
  latest: { speed_mps: { value: 3, unit: "m/s", time: "2026-11-23T08:02:00Z" } },
  info,
  quarantined: {},
});

const status = (worker: string, over: Partial<WorkerStatus> = {}): WorkerStatus => ({
  worker,
  updated: "",
  broker: "connected",
  broker_url: "mqtt://127.0.0.1:1883",
  journal: "ok",
  frames_per_second: 100,
  bytes_per_second: 1e4,
  samples_per_second: 700,
  data_age_s: 0.1,
  store_lag_s: 0.5,
  balanced: true,
  version: "0.1.0",
  ...over,
});

test("a device that is registered and was never heard stands beside the others until it is", () => {
  const port = new Port();
  port.takeDevices([listed("TT01", "live")], 0);
  port.takeRegistered(["CNNGB-DEMO/vehicle/TT01", "CNNGB-DEMO/vehicle/TT02"]);
  expect(port.unheard.map((device) => device.id)).toEqual(["TT02"]);
  expect([port.devices.size, port.count("offline")]).toEqual([1, 0]);
  port.takeLive(live({ TT02: { speed_mps: 1 } }), 1);
  expect(port.unheard).toEqual([]);
});

test("an unknown device is shown at once and its info asked for", () => {
  const port = new Port();
  expect(port.takeLive(live({ "T-001": { x_m: 1, y_m: 2 } }), 0)).toBe(false);
  expect(port.takeLive(live({ "T-001": { x_m: 2 } }), 500)).toBe(true);
  expect(port.devices.get("CNNGB-DEMO/vehicle/T-001")!.values).toEqual(new Map([["x_m", 2], ["y_m", 2]]));
});

test("an event of a device that is not known asks for it", () => {
  const port = new Port();
  const came = (device: string): PortEvent => ({
    id: device,
    cursor: 1,
    type: "device_online",
    site: "CNNGB-DEMO",
    class: "vehicle",
    device,
    time: "2026-11-23T08:02:00Z",
    start: null,
    data: {},
    carrier: null,
  });
  port.takeDevices([listed("TT01", "live")], 0);
  expect(port.takeEvent(came("TT01"), 1)).toBe(true);
  expect(port.takeEvent(came("TT02"), 1)).toBe(false);
});

test("a listed value never replaces a newer live one", () => {
  const port = new Port();
  port.takeLive(live({ T1: { speed_mps: 9 } }), 0);
  port.takeDevices([listed("T1", "live")], 10);
  expect(port.devices.get("CNNGB-DEMO/vehicle/T1")!.values.get("speed_mps")).toBe(9);
});

test("a stale device that speaks is live again", () => {
  const port = new Port();
  port.takeDevices([listed("T1", "stale"), listed("T2", "offline")], 0);
  expect([port.count("live"), port.count("stale"), port.count("offline")]).toEqual([0, 1, 1]);
  port.takeLive(live({ T1: { speed_mps: 0 } }), 1);
  expect([port.count("live"), port.count("stale"), port.count("offline")]).toEqual([1, 0, 1]);
});

test("a device that signs off keeps what it said of itself", () => {
  const port = new Port();
  port.takeDevices([listed("T1", "live", { kind: "external-truck" })], 0);
  port.takeDevices([listed("T1", "offline")], 1);
  expect(port.devices.get("CNNGB-DEMO/vehicle/T1")!.info).toEqual({ kind: "external-truck" });
});

test("rates of workers add up, ages are the worst, silent workers do not count", () => {
  const port = new Port();
  port.takeStatus(status("a"), 0);
  port.takeStatus(status("b", { data_age_s: 2, store_lag_s: null }), 5_000);
  expect(port.workerTotals(6_000)).toEqual({ framesPerSecond: 200, samplesPerSecond: 1400, dataAge: 2, storeLag: 0.5 });
  expect(port.workerTotals(12_000)!.framesPerSecond).toBe(100);
  expect(port.workerTotals(30_000)).toBeNull();
});

test("the port has been heard from the first device on", () => {
  const port = new Port();
  expect(port.heardSeconds).toBe(0);
  port.takeDevices([listed("T1", "live")], 0);
  expect(port.heardSeconds).toBeCloseTo(120.123, 3);
});

test("a search needs every word, in id, kind or info", () => {
  const port = new Port();
  port.takeDevices([listed("ET10", "live", { plate: "浙B12345" }), listed("ET2", "live"), listed("YT01", "live")], 0);
  const ids = (query: string): string[] => matching(port.devices.values(), query, "", () => "集卡").map(({ id }) => id);
  expect(ids("")).toEqual(["ET2", "ET10", "YT01"]);
  expect(ids("集卡 et")).toEqual(["ET2", "ET10"]);
  expect(ids("浙b12345")).toEqual(["ET10"]);
  expect(ids("nothing")).toEqual([]);
});

test("the mark of unknown names goes when the last of them is adopted, and comes back when one is given up", async () => {
  const port = new Port();
  const refused = { value: "1", refused: 3, last: null, guesses: [], command: "" };
  const meaning = { metric: "load_t", scale: 1, offset: 0 };
  const take = (): void => port.takeDevices([{ ...listed("T-1", "live"), quarantined: { unknown_metric: 3 } }, listed("T-2", "live")], 0);
  let names = [{ ...refused, name: "a", adopted: null }, { ...refused, name: "b", adopted: meaning }] as DeviceName[];
  const asked: string[] = [];
  const watch = new UnknownNames(port, (uid) => {
    asked.push(uid);
    return Promise.resolve({ items: names });
  });
  const marked = (): boolean => port.devices.get("CNNGB-DEMO/vehicle/T-1")!.unknownNames;

  take();
  await watch.look();
  expect(marked()).toBe(true);
  names = names.map((name) => ({ ...name, adopted: meaning }));
  take();
  expect(marked()).toBe(true);
  await watch.look();
  expect(marked()).toBe(false);
  take();
  expect(marked()).toBe(false);
  names = names.map((name) => ({ ...name, adopted: null }));
  await watch.look();
  expect(marked()).toBe(true);
  expect(new Set(asked)).toEqual(new Set(["CNNGB-DEMO/vehicle/T-1"]));
});

test("many devices with unknown names are asked for in turn, a few at a time", async () => {
  const port = new Port();
  port.takeDevices(
    Array.from({ length: 30 }, (_, nth) => ({ ...listed(`T-${nth}`, "live"), quarantined: { unknown_metric: 1 } })),
    0,
  );
  const asked: string[] = [];
  const watch = new UnknownNames(port, (uid) => Promise.resolve({ items: (asked.push(uid), []) }));
  for (let round = 0; round < 3; round += 1) await watch.look();
  expect(new Set(asked).size).toBe(30);
  expect(asked.length).toBe(36);
});
