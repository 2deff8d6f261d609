/** One device in a few words: the tooltip on the map and the line in the list. */

import { age, decimal, fixed, type Language } from "./format";
import { language, named, t } from "./i18n";
import type { PortDevice } from "./port";

type Part = (device: PortDevice, shownIn: Language) => string | null;

function value(device: PortDevice, metric: string, digits: number, shownIn: Language): string | null {
  const found = device.values.get(metric);
  return found === undefined ? null : fixed(found, digits, shownIn);
}

const state =
  (metric: string, yes: () => string, no: () => string): Part =>
  (device) => {
    const found = device.values.get(metric);
    return found === undefined ? null : found >= 0.5 ? yes() : no();
  };

const measure =
  (metric: string, digits: number, show: (value: string) => string): Part =>
  (device, shownIn) => {
    const found = value(device, metric, digits, shownIn);
    return found === null ? null : show(found);
  };

const speed: Part = (device, shownIn) => {
  const found = device.values.get("speed_mps");
  return found === undefined ? null : t("tip.speed", { value: decimal(found * 3.6, 0, shownIn) });
};

const locked = state("spreader_locked", () => t("tip.locked"), () => t("tip.unlocked"));
const hoist = measure("hoist_height_m", 1, (found) => t("tip.hoist", { value: found }));
const trolley = measure("trolley_position_m", 1, (found) => t("tip.trolley", { value: found }));
const gantry = measure("gantry_position_m", 1, (found) => t("tip.gantry", { value: found }));
const load = measure("load_t", 1, (found) => t("tip.load", { value: found }));

const PARTS: Readonly<Record<string, readonly Part[]>> = {
  "quay-crane": [locked, load, trolley, hoist, gantry],
  "yard-crane": [locked, load, trolley, hoist, gantry],
  vehicle: [speed, state("laden", () => t("tip.laden"), () => t("tip.unladen"))],
  "rfid-gate": [measure("queue_length", 0, (found) => t("tip.queue", { value: found }))],
  "park-sensor": [
    measure("wind_speed_mps", 1, (found) => `${found} m/s`),
    measure("temperature_celsius", 1, (found) => `${found} °C`),
    measure("humidity_percent", 0, (found) => `${found} %`),
  ],
};

function parts(device: PortDevice): string[] {
  const found = (PARTS[device.class] ?? []).map((part) => part(device, language()));
  return found.filter((part) => part !== null);
}

/** The first two particulars, for a row of the list. */
export const inBrief = (device: PortDevice): string => parts(device).slice(0, 2).join(" · ");

/** All particulars, a line each, the name first; a device that is not live says since when. */
export function inFull(device: PortDevice): readonly string[] {
  const lines = [`${device.id} · ${named("class", device.class)}`, ...parts(device)];
  if (device.state !== "live") {
    const silent = t("tip.lastSeen", { age: age((Date.now() - device.lastSeen) / 1000, language()) });
    lines.push(`${t(`state.${device.state}`)} · ${silent}`);
  }
  return lines;
}
