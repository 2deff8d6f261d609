/** What is known of the port right now: devices with their newest values and motion, and the ingest workers. */

import type { Device, DeviceLiveness, LiveValues, PortEvent, WorkerStatus } from "./answers";
import { epochMs } from "./format";
import { Track } from "./motion";
import type { Scalar } from "./shape";

/** The channels that are drawn in motion, per class; a track holds them in this order. */
const MOVING: Readonly<Record<string, readonly string[]>> = {
  vehicle: ["x_m", "y_m"],
  "quay-crane": ["gantry_position_m", "trolley_position_m", "hoist_height_m"],
  "yard-crane": ["gantry_position_m", "trolley_position_m", "hoist_height_m"],
};

/** A change between two updates that no machine of the class makes: it was moved, not driven (m). */
const JUMP_M: Readonly<Record<string, number>> = { vehicle: 150, "quay-crane": 60, "yard-crane": 60 };

/** A worker that has not reported for this long (ms) is not counted in the figures. */
const WORKER_SILENT_MS = 10_000;

export interface PortDevice {
  readonly uid: string;
  readonly id: string;
  readonly site: string;
  readonly class: string;
  state: DeviceLiveness;
  /** Whether the API has listed it: the live stream is ahead of the records by a commit. */
  listed: boolean;
  /** Whether values of it were ever refused because their names are not known. */
  refusedNames: boolean;
  /** Whether one of these names is still without a meaning. */
  unknownNames: boolean;
  /** When it was last heard, ms since 1970; NaN if unknown. */
  lastSeen: number;
  info: Readonly<Record<string, Scalar>>;
  readonly values: Map<string, number>;
  readonly units: Map<string, string>;
  readonly track: Track | null;
}

export type Change = "devices" | "values" | "workers";

interface Worker {
  readonly status: WorkerStatus;
  readonly at: number;
}

/** The figures of all workers together. */
export interface WorkerTotals {
  readonly framesPerSecond: number;
  readonly samplesPerSecond: number;
  readonly dataAge: number | null;
  readonly storeLag: number | null;
}

export class Port {
  readonly devices = new Map<string, PortDevice>();
  private registered = new Map<string, PortDevice>();
  private readonly workers = new Map<string, Worker>();
  private readonly listeners = new Map<Change, (() => void)[]>();
  private readonly passages = new Map<string, number>();
  /** When the first device was ever heard and the last one just now, by the server's clock, ms since 1970. */
  private heard = { first: Infinity, last: -Infinity };

  on(change: Change, listener: () => void): void {
    this.listeners.set(change, [...(this.listeners.get(change) ?? []), listener]);
  }

  /** Forget everything: the server has begun anew. */
  clear(): void {
    this.devices.clear();
    this.workers.clear();
    this.passages.clear();
    this.heard = { first: Infinity, last: -Infinity };
    this.tell("devices");
  }

  /** Take the list of devices as the API knows it; `now` as of performance.now(). */
  takeDevices(found: readonly Device[], now: number): void {
    for (const device of found) {
      const known = this.deviceOf(device.site, device.class, device.id);
      known.state = device.state;
      known.listed = true;
      known.refusedNames = (device.quarantined["unknown_metric"] ?? 0) > 0;
      known.unknownNames &&= known.refusedNames;
      known.lastSeen = epochMs(device.last_seen);
      const first = epochMs(device.first_seen);
      if (first < this.heard.first) this.heard.first = first;
      if (known.lastSeen > this.heard.last) this.heard.last = known.lastSeen;
      // A device that signs off says nothing of itself; what it is and where it stands has not changed by that.
      if (Object.keys(device.info).length > 0) known.info = device.info;
      for (const [metric, latest] of Object.entries(device.latest)) {
        known.units.set(metric, latest.unit);
        if (!known.values.has(metric)) known.values.set(metric, latest.value);
      }
      if (known.track && known.track.newest === null) this.pushTrack(known, now);
    }
    this.tell("devices");
  }

  /** Take the uids of the devices that are registered, heard or not. */
  takeRegistered(uids: readonly string[]): void {
    this.registered = new Map(uids.map((uid) => [uid, this.registered.get(uid) ?? silent(uid)]));
    this.tell("devices");
  }

  /** The uids of the devices of which names were refused, with a meaning meanwhile or not. */
  get refusedNames(): string[] {
    return [...this.devices.values()].filter((device) => device.refusedNames).map(({ uid }) => uid);
  }

  /** Note whether a device has names that are refused and without a meaning. */
  setUnknownNames(uid: string, unknown: boolean): void {
    const device = this.devices.get(uid);
    if (!device || device.unknownNames === unknown) return;
    device.unknownNames = unknown;
    this.tell("devices");
  }

  /** The registered devices that were never heard. */
  get unheard(): readonly PortDevice[] {
    return [...this.registered.values()].filter((device) => !this.devices.has(device.uid));
  }

  /** Take changed values; returns false if a device among them was not known yet (its info must be asked for). */
  takeLive(live: LiveValues, now: number): boolean {
    let complete = true;
    let revived = false;
    for (const [id, values] of Object.entries(live.values)) {
      const known = this.devices.has(`${live.site}/${live.class}/${id}`);
      complete &&= known;
      const device = this.deviceOf(live.site, live.class, id);
      for (const [metric, value] of Object.entries(values)) device.values.set(metric, value);
      device.lastSeen = Date.now();
      if (device.state !== "live" || !known) {
        device.state = "live";
        revived = true;
      }
      this.pushTrack(device, now);
    }
    this.tell("values");
    if (revived) this.tell("devices");
    return complete;
  }

  /**
   * Take a port event: a passage makes its lane flash, a device that goes offline shows it at once. Returns false for an
   * event of a device that is not known yet.
   */
  takeEvent(event: PortEvent, now: number): boolean {
    const uid = `${event.site}/${event.class}/${event.device}`;
    if (event.type === "gate_passage") this.passages.set(uid, now);
    const device = this.devices.get(uid);
    if (device && event.type === "device_offline") {
      device.state = "offline";
      this.tell("devices");
    }
    return device !== undefined;
  }

  takeStatus(status: WorkerStatus, now: number): void {
    this.workers.set(status.worker, { status, at: now });
    this.tell("workers");
  }

  /** When the last passage of a lane was seen, as of performance.now(); -Infinity if none. */
  passageAt(uid: string): number {
    return this.passages.get(uid) ?? Number.NEGATIVE_INFINITY;
  }

  /** The statuses of the workers heard lately. */
  liveWorkers(now: number): readonly WorkerStatus[] {
    return [...this.workers.values()].filter(({ at }) => now - at < WORKER_SILENT_MS).map(({ status }) => status);
  }

  /** Sums of rates and the worst of ages over all live workers; null if none is live. */
  workerTotals(now: number): WorkerTotals | null {
    const live = this.liveWorkers(now);
    if (live.length === 0) return null;
    const worst = (values: readonly (number | null)[]): number | null => {
      const known = values.filter((value) => value !== null);
      return known.length ? Math.max(...known) : null;
    };
    return {
      framesPerSecond: live.reduce((sum, status) => sum + status.frames_per_second, 0),
      samplesPerSecond: live.reduce((sum, status) => sum + status.samples_per_second, 0),
      dataAge: worst(live.map((status) => status.data_age_s)),
      storeLag: worst(live.map((status) => status.store_lag_s)),
    };
  }

  count(state: DeviceLiveness): number {
    let found = 0;
    for (const device of this.devices.values()) if (device.state === state) found += 1;
    return found;
  }

  /** For how long the port has been heard, s; 0 if it has not. */
  get heardSeconds(): number {
    return Math.max(0, (this.heard.last - this.heard.first) / 1000);
  }

  get sites(): readonly string[] {
    return [...new Set([...this.devices.values()].map((device) => device.site))].sort();
  }

  private deviceOf(site: string, deviceClass: string, id: string): PortDevice {
    const uid = `${site}/${deviceClass}/${id}`;
    let device = this.devices.get(uid);
    if (!device) {
      device = { ...silent(uid), state: "live" };
      this.devices.set(uid, device);
    }
    return device;
  }

  private pushTrack(device: PortDevice, now: number): void {
    const channels = MOVING[device.class];
    if (!device.track || !channels) return;
    // A crane may not send all its axes, a vehicle without a local position is not on the map.
    const values = channels.map((metric) => device.values.get(metric));
    if (values[0] === undefined || (device.class === "vehicle" && values[1] === undefined)) return;
    device.track.push(
      now,
      values.map((value) => value ?? 0),
    );
  }

  private tell(change: Change): void {
    for (const listener of this.listeners.get(change) ?? []) listener();
  }
}

/** A device of which nothing has been heard yet. */
function silent(uid: string): PortDevice {
  const [site = "", deviceClass = "", id = ""] = uid.split("/");
  const jump = JUMP_M[deviceClass];
  return {
    uid,
    id,
    site,
    class: deviceClass,
    state: "offline",
    listed: false,
    refusedNames: false,
    unknownNames: false,
    lastSeen: Number.NaN,
    info: {},
    values: new Map(),
    units: new Map(),
    track: jump === undefined ? null : new Track(jump),
  };
}
