/** What the API answers, as shapes; the types are inferred from them. Only what the page reads is named here. */

import { fields, flag, list, number, oneOf, orNull, record, scalar, text, type Infer, type Shape } from "./shape";

export const DEVICE_STATES = ["live", "stale", "offline"] as const;
export type DeviceLiveness = (typeof DEVICE_STATES)[number];

/** A measured value; states may come as booleans. */
const measured: Shape<number> = (value, path) => (typeof value === "boolean" ? Number(value) : number(value, path));

const latest = fields({ value: measured, unit: text, time: text });

export const device = fields({
  id: text,
  uid: text,
  site: text,
  class: text,
  online: orNull(flag),
  state: oneOf(...DEVICE_STATES),
  first_seen: orNull(text),
  last_seen: orNull(text),
  latest: record(latest),
  info: record(scalar),
  quarantined: record(number),
});
export type Device = Infer<typeof device>;

export const devicePage = fields({ items: list(device), next: orNull(text), complete_through: orNull(text) });

export const definition = fields({
  id: text,
  version: text,
  description: text,
  name: orNull(text),
  numerator: orNull(text),
  denominator: orNull(text),
});
export type Definition = Infer<typeof definition>;

const point = fields({
  time: text,
  count: number,
  mean: orNull(number),
  min: orNull(number),
  max: orNull(number),
  sum: orNull(number),
});
export type Point = Infer<typeof point>;

export const telemetry = fields({
  device: text,
  uid: text,
  metric: text,
  unit: text,
  resolution: number,
  kind: text,
  definition,
  start: text,
  end: text,
  step: scalar,
  complete_through: orNull(text),
  observations: number,
  coverage_percent: orNull(number),
  corrections: number,
  points: list(point),
});
export type Telemetry = Infer<typeof telemetry>;

const figureFrame = {
  definition,
  start: text,
  end: text,
  step: scalar,
  complete_through: orNull(text),
  observations: number,
  coverage_percent: orNull(number),
  corrections: number,
};

const cranePoint = fields({ time: text, moves: number, teu: number });
const craneGroup = fields({
  group: text,
  site: text,
  moves: number,
  teu: number,
  moves_per_hour: orNull(number),
  points: list(cranePoint),
});
export const craneThroughput = fields({ ...figureFrame, groups: list(craneGroup) });
export type CraneThroughput = Infer<typeof craneThroughput>;

const gateGroup = fields({
  group: text,
  site: text,
  passages_in: number,
  passages_out: number,
  passages_per_hour: orNull(number),
});
export const gateThroughput = fields({ ...figureFrame, groups: list(gateGroup) });
export type GateThroughput = Infer<typeof gateThroughput>;

/** What every throughput answer says about itself, whatever it groups by. */
export type FigureFrame = Pick<
  CraneThroughput,
  "definition" | "start" | "end" | "complete_through" | "observations" | "coverage_percent" | "corrections"
>;

export const portEvent = fields({
  id: text,
  cursor: number,
  type: text,
  site: text,
  class: text,
  device: text,
  time: text,
  start: orNull(text),
  data: record(scalar),
  carrier: orNull(fields({ id: text, type: text, source: text })),
});
export type PortEvent = Infer<typeof portEvent>;

export const eventPage = fields({ items: list(portEvent), complete_through: orNull(text) });

const refusal = fields({
  id: scalar,
  reason: text,
  pointer: text,
  detail: text,
  topic: text,
  uid: text,
  received: text,
  payload: text,
  payload_encoding: text,
  payload_bytes: number,
});
export type Refusal = Infer<typeof refusal>;

export const refusalPage = fields({ items: list(refusal), complete_through: orNull(text) });

export const CAUSES = [
  "live",
  "clock_off",
  "several_workers",
  "repeating",
  "partly_refused",
  "silent",
  "offline",
  "never_heard",
  "all_refused",
  "not_admitted",
] as const;

export const health = fields({
  uid: text,
  cause: oneOf(...CAUSES),
  live: flag,
  registered: flag,
  enabled: flag,
  admitted: flag,
  credential: orNull(text),
  heard: flag,
  online: flag,
  first_seen: orNull(text),
  last_seen: orNull(text),
  silent_s: orNull(number),
  frames: number,
  accepted: number,
  rate_hz: orNull(number),
  skew_s: orNull(number),
  lost_before_journal: orNull(number),
  duplicate: number,
  quarantined: record(number),
  refused: record(fields({ messages: number, values: number })),
  refusals: list(fields({ reason: text, pointer: text, detail: text, received: text })),
  publish: text,
});
export type Health = Infer<typeof health>;

export const meaning = fields({ metric: text, scale: number, offset: number });
export type Meaning = Infer<typeof meaning>;

const deviceName = fields({
  name: text,
  value: text,
  refused: number,
  last: orNull(text),
  adopted: orNull(meaning),
  guesses: list(fields({ metric: text, scale: number })),
  command: text,
});
export type DeviceName = Infer<typeof deviceName>;

export const deviceNames = fields({ uid: text, items: list(deviceName) });

const vocabularyMetric = fields({ name: text, unit: text, resolution: number, classes: list(text), derived: flag });
export type VocabularyMetric = Infer<typeof vocabularyMetric>;

export const vocabulary = fields({ items: list(vocabularyMetric) });

export const registryPage = fields({ items: list(fields({ key: text })) });

const frameAccounts = fields({
  received: number,
  windowed: number,
  merged_late: number,
  duplicate: number,
  quarantined: number,
  shed: number,
  lost_before_journal: orNull(number),
});
export type FrameAccounts = Infer<typeof frameAccounts>;

export const ledger = fields({
  balanced: flag,
  journal_frames: orNull(number),
  total: fields({ frames: frameAccounts, samples: fields({ quarantined: number }), quarantined_by_reason: record(number) }),
  complete_through: orNull(text),
});
export type Ledger = Infer<typeof ledger>;

/** `event: live` of the stream: what changed in one class since the last one. */
export const liveValues = fields({
  site: text,
  class: text,
  time: text,
  values: record(record(measured)),
});
export type LiveValues = Infer<typeof liveValues>;

/** Whether anything comes from the broker, and for how long nothing has. */
export const broker = fields({ heard: flag, silent_s: number });
export type Broker = Infer<typeof broker>;

/** `event: hello` of the stream: where it begins, and the workers known. Devices are asked for in full instead. */
export const hello = fields({ cursor: number, broker });

/** `event: status` of the stream: an ingest worker about itself. */
export const workerStatus = fields({
  worker: text,
  updated: text,
  broker: text,
  broker_url: text,
  journal: text,
  frames_per_second: number,
  bytes_per_second: number,
  samples_per_second: number,
  data_age_s: orNull(number),
  store_lag_s: orNull(number),
  balanced: flag,
  version: text,
});
export type WorkerStatus = Infer<typeof workerStatus>;

/** What became of a command that a device has answered. */
export const commandSent = fields({ id: text, outcome: oneOf("done", "refused"), detail: text, data: record(scalar) });
export type CommandSent = Infer<typeof commandSent>;

export const problem = fields({
  title: text,
  status: number,
  type: orNull(text),
  detail: orNull(text),
  errors: orNull(list(fields({ pointer: orNull(text), detail: text }))),
});
