/** The chart of one metric of one device: a band from minimum to maximum with the mean in it, or bars of a tally. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Point, Telemetry } from "./answers";
import * as api from "./api";
import { byId, copy, h, setText } from "./dom";
import { failureOf } from "./failures";
import { clockOf, csv, decimal, decimalsOf, epochMs, fixed, shownUnit } from "./format";
import { FONT } from "./ground";
import { language, named, onLanguage, t, type Key } from "./i18n";
import { PALETTES } from "./palette";
import type { Port, PortDevice } from "./port";
import type { Theme } from "./prefs";

const RANGES = [
  { name: "15m", label: "chart.range.15m", start: "-15m", refreshMs: 5_000 },
  { name: "1h", label: "chart.range.1h", start: "-1h", refreshMs: 10_000 },
  { name: "8h", label: "chart.range.8h", start: "-8h", refreshMs: 30_000 },
] as const satisfies readonly { name: string; label: Key; start: string; refreshMs: number }[];

/** A device that the API does not list yet is asked for again after this long (ms). */
const UNLISTED_MS = 1_000;
/** Decimals of a mean at least: that of whole numbers is none. */
const MEAN_DIGITS = 2;

type Range = (typeof RANGES)[number];

/** What a person most likely wants to see first of each class. */
const FIRST_METRIC: Readonly<Record<string, readonly string[]>> = {
  "quay-crane": ["trolley_position_m", "hoist_height_m"],
  "yard-crane": ["gantry_position_m", "trolley_position_m"],
  vehicle: ["speed_mps"],
  "rfid-gate": ["queue_length", "reads", "rssi_dbm"],
  "park-sensor": ["wind_speed_mps", "temperature_celsius"],
};

/** Columns for uPlot: time (s), then maximum, minimum and mean, or the sum for a tally. */
export type Columns = [times: number[], ...values: (number | null)[][]];

/**
 * Turn the points of an answer into columns, with an empty row where windows are missing, so that no line is drawn
 * through a silence. The step is the smallest distance between points.
 */
export function columnsOf(points: readonly Point[], tally: boolean): Columns {
  const times = points.map((point) => epochMs(point.time) / 1000);
  let step = Infinity;
  for (let index = 1; index < times.length; index += 1) step = Math.min(step, times[index]! - times[index - 1]!);
  const columns: Columns = tally ? [[], []] : [[], [], [], []];
  points.forEach((point, index) => {
    const time = times[index]!;
    const before = times[index - 1];
    if (!tally && before !== undefined && time - before > 1.6 * step) addRow(columns, before + step, [null, null, null]);
    addRow(columns, time, tally ? [point.sum] : [point.max, point.min, point.mean]);
  });
  return columns;
}

function addRow(columns: Columns, time: number, values: readonly (number | null)[]): void {
  const [times, ...others] = columns;
  times.push(time);
  others.forEach((column, index) => column.push(values[index] ?? null));
}

/** The answer's points as CSV text with a header row that names the unit. */
export function csvOf(answer: Telemetry): string {
  const unit = shownUnit(answer.unit);
  const of = (name: string): string => (unit ? `${name}_${answer.metric} (${unit})` : `${name}_${answer.metric}`);
  const head = ["time", "count", of("mean"), of("min"), of("max"), of("sum")];
  return csv([head, ...answer.points.map((point) => [point.time, point.count, point.mean, point.min, point.max, point.sum])]);
}

export class ChartPanel {
  private device: PortDevice | null = null;
  private metric: string | null = null;
  private range: Range = RANGES[0];
  private theme: Theme = "dark";
  private plot: uPlot | null = null;
  private answer: Telemetry | null = null;
  private error: string | null = null;
  private asked = 0;
  private timer = 0;
  private readonly preferred = new Map<string, string>();

  private readonly title = byId("chart-device", HTMLHeadingElement);
  private readonly metrics = byId("chart-metric", HTMLSelectElement);
  private readonly ranges = byId("chart-ranges", HTMLDivElement);
  private readonly host = byId("plot", HTMLDivElement);
  private readonly message = byId("chart-message", HTMLParagraphElement);
  private readonly readout = byId("chart-readout", HTMLParagraphElement);
  private readonly request = byId("chart-request", HTMLElement);
  private readonly curlButton = byId("chart-curl", HTMLButtonElement);
  private readonly csvButton = byId("chart-csv", HTMLButtonElement);

  constructor(port: Port) {
    for (const range of RANGES) {
      const button = h("button", { type: "button", "data-range": range.name });
      button.addEventListener("click", () => this.setRange(range));
      this.ranges.append(button);
    }
    this.metrics.addEventListener("change", () => {
      this.metric = this.metrics.value;
      if (this.device) this.preferred.set(this.device.class, this.metric);
      this.reload();
    });
    this.curlButton.addEventListener("click", () => void this.copied(this.curlButton, "chart.curl", this.curl()));
    this.csvButton.addEventListener("click", () => {
      if (this.answer) void this.copied(this.csvButton, "chart.csv", csvOf(this.answer));
    });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.host);
    port.on("values", () => this.listMetrics());
    onLanguage(() => this.relabel());
  }

  show(device: PortDevice): void {
    this.device = device;
    this.metric = null;
    this.answer = null;
    this.listMetrics();
    this.relabel();
    this.reload();
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    this.drawAnew();
  }

  /** What is shown: for tests. */
  get shown(): { device: string | null; metric: string | null; points: number } {
    return { device: this.device?.id ?? null, metric: this.metric, points: this.answer?.points.length ?? 0 };
  }

  /** Why the latest request failed, or null. */
  get failure(): string | null {
    return this.error;
  }

  private setRange(range: Range): void {
    this.range = range;
    this.relabel();
    this.reload();
  }

  /** Offer the metrics that the device has sent so far; choose one if none is chosen. */
  private listMetrics(): void {
    if (!this.device) return;
    const offered = [...this.metrics.options].map((option) => option.value);
    const known = [...this.device.values.keys()].sort((a, b) => this.rank(a) - this.rank(b) || a.localeCompare(b));
    if (known.length === offered.length && known.every((metric, index) => metric === offered[index])) return;
    this.metrics.replaceChildren(...known.map((metric) => h("option", { value: metric }, named("metric", metric))));
    this.metrics.disabled = known.length === 0;
    if (this.metric === null && known[0] !== undefined) {
      this.metric = known[0];
      this.reload();
    }
    if (this.metric !== null) this.metrics.value = this.metric;
  }

  private rank(metric: string): number {
    const deviceClass = this.device?.class ?? "";
    if (this.preferred.get(deviceClass) === metric) return -1;
    const found = (FIRST_METRIC[deviceClass] ?? []).indexOf(metric);
    return found < 0 ? 100 : found;
  }

  private path(): string | null {
    return this.device?.listed && this.metric ? api.telemetryPath(this.device.uid, this.metric, this.range.start) : null;
  }

  private curl(): string {
    const path = this.path();
    return path ? api.curlCommand(location.origin, path) : "";
  }

  private reload(): void {
    clearTimeout(this.timer);
    setText(this.request, this.curl());
    this.asked += 1;
    void this.load(this.asked);
  }

  private async load(asked: number): Promise<void> {
    const path = this.path();
    if (path) {
      let answer: Telemetry | null = null;
      let error: string | null = null;
      try {
        answer = await api.telemetry(path);
      } catch (reason) {
        error = failureOf(reason);
      }
      if (asked !== this.asked) return; // another device, metric or range was chosen meanwhile
      if (answer) this.answer = answer;
      this.error = error;
      this.draw();
    } else {
      this.draw();
    }
    const pause = path ? this.range.refreshMs : UNLISTED_MS;
    if (asked === this.asked) this.timer = window.setTimeout(() => this.reload(), pause);
  }

  private relabel(): void {
    setText(this.title, this.device ? this.device.id : t("chart.title"));
    for (const option of this.metrics.options) option.textContent = named("metric", option.value);
    for (const [index, range] of RANGES.entries()) {
      const button = this.ranges.children[index]!;
      button.textContent = t(range.label);
      button.setAttribute("aria-pressed", String(range === this.range));
    }
    this.drawAnew();
  }

  private drawAnew(): void {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  private draw(): void {
    const { answer } = this;
    const fits = answer !== null && answer.uid === this.device?.uid && answer.metric === this.metric;
    this.say(fits);
    const drawable = fits && answer.points.length > 0;
    this.host.classList.toggle("old", this.error !== null);
    this.csvButton.disabled = !drawable;
    this.curlButton.disabled = this.path() === null;
    if (!drawable) {
      this.plot?.destroy();
      this.plot = null;
      return;
    }
    const columns = columnsOf(answer.points, answer.kind === "tally");
    const key = `${answer.metric}/${answer.uid}`;
    if (this.plot && this.host.dataset["key"] !== key) {
      this.plot.destroy();
      this.plot = null;
    }
    this.host.dataset["key"] = key;
    if (this.plot) {
      this.plot.setData(columns, false);
      this.plot.setScale("x", this.extent(answer));
    } else {
      this.plot = new uPlot(this.options(answer), columns, this.host);
    }
    const label = { metric: named("metric", answer.metric), device: answer.device };
    this.host.setAttribute("aria-label", t("chart.plotLabel", label));
    this.readAt(null);
  }

  private say(fits: boolean): void {
    let text = "";
    if (!this.device) text = t("chart.choose");
    else if (this.metric === null) text = t("chart.noMetrics", { device: this.device.id });
    else if (this.error !== null && !fits) text = t("chart.failed", { error: this.error });
    else if (fits && this.answer?.points.length === 0) text = t("chart.noPoints", { metric: named("metric", this.metric) });
    setText(this.message, text);
    this.message.hidden = text === "";
    if (!fits) setText(this.readout, "");
  }

  private extent(answer: Telemetry): { min: number; max: number } {
    return { min: epochMs(answer.start) / 1000, max: epochMs(answer.end) / 1000 };
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(80, this.host.clientWidth), height: Math.max(60, this.host.clientHeight) };
  }

  private options(answer: Telemetry): uPlot.Options {
    const palette = PALETTES[this.theme];
    const tally = answer.kind === "tally";
    const axis: uPlot.Axis = {
      stroke: palette.chartText,
      font: `11px ${FONT}`,
      labelFont: `11px ${FONT}`,
      grid: { stroke: palette.chartGrid, width: 1 },
      ticks: { stroke: palette.chartGrid, width: 1, size: 4 },
    };
    // A line needs two points: what stands alone, such as a device's first value, is a dot.
    const alone = (plot: uPlot, series: number): number[] => lonePoints(plot.data[series] ?? []);
    const points = { show: false, size: 5, fill: palette.chartLine, filter: alone };
    const line = { stroke: palette.chartLine, width: 1.5, points };
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    const bars = uPlot.paths.bars?.({ size: [0.8, 24], align: 1 });
    return {
      ...this.size(),
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: true, range: () => this.plotRange(answer) },
        y: { range: (_plot, low, high) => yRange(low, high, tally, answer.kind === "state") },
      },
      axes: [
        { ...axis, size: 26, space: 60, values: (_plot, splits) => splits.map((at) => clockOf(new Date(at * 1000).toISOString()).slice(0, 5)) },
        {
          ...axis,
          size: 44,
          label: shownUnit(answer.unit),
          labelSize: shownUnit(answer.unit) ? 16 : 0,
          space: 28,
          values: (_plot, splits) => splits.map((value) => decimal(value, digitsOf(splits), language())),
        },
      ],
      series: tally
        ? [{}, { ...line, fill: palette.chartBand, ...(bars ? { paths: bars } : {}) }]
        : [{}, edge, edge, line],
      ...(tally ? {} : { bands: [{ series: [1, 2], fill: palette.chartBand }] }),
      hooks: {
        setCursor: [(plot) => this.readAt(plot.cursor.idx ?? null)],
        draw: [(plot) => this.markComplete(plot)],
      },
    };
  }

  private plotRange(answer: Telemetry): [number, number] {
    const { min, max } = this.extent(this.answer ?? answer);
    return [min, max];
  }

  /** A dashed line where the figures end being final: what lies right of it may still change. */
  private markComplete(plot: uPlot): void {
    const through = epochMs(this.answer?.complete_through) / 1000;
    const { min, max } = plot.scales["x"] ?? {};
    if (!Number.isFinite(through) || min == null || max == null || through <= min || through >= max) return;
    const x = Math.round(plot.valToPos(through, "x", true)) + 0.5;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = PALETTES[this.theme].chartText;
    ctx.globalAlpha = 0.7;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  /** The line below the plot: values under the cursor, or what the whole answer rests on. */
  private readAt(index: number | null): void {
    const { answer } = this;
    if (!answer || !this.plot) return;
    const data = this.plot.data;
    const time = index === null ? undefined : data[0][index];
    if (index === null || time === undefined) {
      const coverage = answer.coverage_percent === null ? "–" : `${decimal(answer.coverage_percent, 1, language())} %`;
      const parameters = {
        observations: decimal(answer.observations, 0, language()),
        coverage,
        through: clockOf(answer.complete_through),
      };
      setText(this.readout, t("chart.summary", parameters));
      return;
    }
    const unit = shownUnit(answer.unit);
    const digits = decimalsOf(answer.resolution);
    const figure = (column: number, least = 0): string => fixed(data[column]?.[index], Math.max(digits, least), language());
    const at = clockOf(new Date(time * 1000).toISOString());
    const values =
      answer.kind === "tally"
        ? `${t("chart.sum")} ${figure(1)}`
        : `${t("chart.mean")} ${figure(3, MEAN_DIGITS)} · ${t("chart.band")} ${figure(2)} – ${figure(1)}`;
    setText(this.readout, `${at} · ${values} ${unit}`.trim());
  }

  private async copied(button: HTMLButtonElement, key: Key, text: string): Promise<void> {
    button.textContent = t((await copy(text)) ? "chart.copied" : "chart.copyFailed");
    window.setTimeout(() => (button.textContent = t(key)), 1_500);
  }
}

/** The y range: from zero for tallies, 0 to 1 for states, else a little more than the data, never of zero height. */
export function yRange(low: number | null, high: number | null, tally: boolean, state: boolean): [number, number] {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  if (tally) return [0, Math.max(1, high * 1.1)];
  if (state && low >= 0 && high <= 1) return [-0.05, 1.1];
  const pad = high > low ? Math.max((high - low) * 0.08, Math.abs(high) * 0.002, 0.01) : Math.max(Math.abs(high) * 0.05, 0.01);
  return [low - pad, high + pad];
}

/** How many decimals tell the marks of an axis from each other. */
export function digitsOf(marks: readonly number[]): number {
  const [first, second] = marks;
  if (first === undefined || second === undefined || first === second) return 2;
  const text = Math.abs(second - first).toFixed(6).replace(/0+$/, "");
  return text.length - text.indexOf(".") - 1;
}

/** The indices of the values that have none beside them. */
export function lonePoints(values: ArrayLike<number | null | undefined>): number[] {
  const found: number[] = [];
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] != null && values[index - 1] == null && values[index + 1] == null) found.push(index);
  }
  return found;
}
