/** The strip of figures. Each says on hover or focus what it means, what it rests on, and how to ask for it. */

import type { CraneThroughput, Definition, FigureFrame, GateThroughput, Ledger } from "./answers";
import * as api from "./api";
import { byId, h, setText, svg } from "./dom";
import { age, clockOf, decimal, epochMs, threeFigures, type Language } from "./format";
import { clamp } from "./geometry";
import { language, onLanguage, t, type Key } from "./i18n";
import { DEFINITIONS } from "./i18n/kpis.zh";
import { Polled } from "./polled";
import type { Port, WorkerTotals } from "./port";

const THROUGHPUT_MS = 5_000;
const LEDGER_MS = 3_000;
const RATE_POINTS = 60;

/** So many statuses in a row, one a second, without a message: the age of the newest then says nothing of the present. */
const QUIET_POINTS = 15;

/** Figures of the live stream greyed after this long without a word, s. */
const OLD_S = 5;

/** Rates are over this long (s), less while the port has been heard for less: before that there was nothing to count. */
const WINDOW_S = { longest: 900, shortest: 60, grid: 10 } as const;

/** The range of the rates for a port heard for so many seconds, s. */
export function rateWindow(heardSeconds: number): number {
  const whole = Math.ceil(heardSeconds / WINDOW_S.grid) * WINDOW_S.grid;
  return clamp(whole, WINDOW_S.shortest, WINDOW_S.longest);
}

/** Rows of the explanation: a heading and a text. */
type Rows = readonly (readonly [string, string])[];

interface Shown {
  readonly value: string;
  readonly unit: string;
  readonly details: readonly string[];
  /** ok and bad are said in words as well; colour alone says nothing. */
  readonly verdict?: "ok" | "bad";
  /** Age in seconds of a figure that must not be taken for the present, else null. */
  readonly old: number | null;
  readonly bars?: readonly Bar[];
  readonly line?: readonly number[];
  readonly about: Rows;
}

interface Bar {
  readonly name: string;
  readonly value: number;
}

interface Card {
  readonly element: HTMLElement;
  readonly read: () => Shown;
  shown: Shown | null;
}

const TRACE = { width: 100, height: 32 } as const;

/** With more bars than this, names below them would not fit. */
const MOST_NAMES = 8;

/** What a ledger's frames are short of (or over): zero for a balanced one. */
export function ledgerDifference(ledger: Ledger): number {
  const { received, windowed, merged_late, duplicate, quarantined, shed } = ledger.total.frames;
  return received - windowed - merged_late - duplicate - quarantined - shed;
}

/** Totals over all quay cranes; the mean is over the cranes that the answer lists. */
export function craneTotals(answer: CraneThroughput): { moves: number; teu: number; mean: number | null } {
  const hours = (epochMs(answer.end) - epochMs(answer.start)) / 3_600_000;
  let [moves, teu] = [0, 0];
  for (const group of answer.groups) {
    moves += group.moves_per_hour ?? 0;
    // TEU per hour by the same denominator as the moves, which the API chose.
    teu += group.moves > 0 ? ((group.moves_per_hour ?? 0) * group.teu) / group.moves : group.teu / hours;
  }
  return { moves, teu, mean: answer.groups.length ? moves / answer.groups.length : null };
}

/** Passages per hour over all lanes, split by direction in the proportion counted. */
export function gateTotals(answer: GateThroughput): { total: number; inward: number; outward: number } {
  let [inward, outward] = [0, 0];
  for (const group of answer.groups) {
    const counted = group.passages_in + group.passages_out;
    if (counted === 0) continue;
    inward += ((group.passages_per_hour ?? 0) * group.passages_in) / counted;
    outward += ((group.passages_per_hour ?? 0) * group.passages_out) / counted;
  }
  return { total: inward + outward, inward, outward };
}

export class Figures {
  readonly ledger: Polled<Ledger>;
  private readonly cranes: Polled<CraneThroughput>;
  private readonly gates: Polled<GateThroughput>;
  private readonly rates: number[] = [];
  private readonly cards: readonly Card[];
  private readonly about = byId("about", HTMLDivElement);
  private explained: Card | null = null;
  private lastWorkers: { totals: WorkerTotals; at: number } | null = null;

  constructor(
    private readonly port: Port,
    private readonly silence: () => number,
    onLedger: (ledger: Ledger) => void,
  ) {
    this.cranes = new Polled(() => api.craneThroughput(this.path("crane")), THROUGHPUT_MS, () => this.draw());
    this.gates = new Polled(() => api.gateThroughput(this.path("gate")), THROUGHPUT_MS, () => this.draw());
    this.ledger = new Polled(api.ledger, LEDGER_MS, () => {
      if (this.ledger.value) onLedger(this.ledger.value);
      this.draw();
    });
    const strip = byId("figures", HTMLElement);
    this.cards = (
      [
        ["moves", () => this.moves()],
        ["gates", () => this.passages()],
        ["messages", () => this.messages()],
        ["age", () => this.dataAge()],
        ["ledger", () => this.balance()],
        ["devices", () => this.devices()],
      ] as const
    ).map(([name, read]) => this.card(strip, name, read));
    let listed = false;
    port.on("devices", () => {
      // The range of the rates depends on how long the port has been heard, which the first list tells.
      if (!listed) for (const polled of [this.cranes, this.gates]) polled.start();
      listed = true;
      this.draw();
    });
    port.on("workers", () => this.takeRate());
    onLanguage(() => this.draw());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.explain(null);
    });
  }

  start(): void {
    this.ledger.start();
    setInterval(() => this.draw(), 1_000);
  }

  private card(strip: HTMLElement, name: string, read: () => Shown): Card {
    const element = h(
      "article",
      { class: "figure", id: `figure-${name}`, tabindex: 0 },
      h("h2"),
      h("p", { class: "value" }, h("b"), " ", h("span")),
      h("p", { class: "details" }, h("span"), h("span")),
      h(
        "div",
        { class: "trace", "aria-hidden": "true" },
        svg("svg", { preserveAspectRatio: "none", viewBox: `0 0 ${TRACE.width} ${TRACE.height}` }),
        h("p", { class: "names" }),
      ),
      h("span", { class: "old-note" }),
    );
    strip.append(element);
    const card: Card = { element, read, shown: null };
    element.addEventListener("pointerenter", () => this.explain(card));
    element.addEventListener("pointerleave", () => this.explain(null));
    element.addEventListener("focus", () => this.explain(card));
    element.addEventListener("blur", () => this.explain(null));
    return card;
  }

  private draw(): void {
    for (const card of this.cards) {
      const shown = card.read();
      card.shown = shown;
      const { element } = card;
      setText(element.querySelector("h2")!, t(`figure.${element.id.slice("figure-".length)}` as Key));
      setText(element.querySelector(".value b")!, shown.value);
      setText(element.querySelector(".value span")!, shown.unit);
      const details = element.querySelectorAll(".details span");
      details.forEach((detail, index) => setText(detail, shown.details[index] ?? ""));
      element.classList.toggle("old", shown.old !== null);
      setText(element.querySelector(".old-note")!, shown.old === null ? "" : t("figure.stale", { age: age(shown.old, language()) }));
      element.dataset["verdict"] = shown.verdict ?? "";
      drawTrace(element.querySelector<HTMLElement>(".trace")!, shown);
    }
    if (this.explained) this.fill(this.explained);
  }

  /** Failures of the latest requests. */
  get errors(): readonly (string | null)[] {
    return [this.cranes.error, this.gates.error, this.ledger.error];
  }

  private path(groupBy: "crane" | "gate"): string {
    return api.throughputPath(groupBy, rateWindow(this.port.heardSeconds));
  }

  // The explanation

  private explain(card: Card | null): void {
    this.explained?.element.removeAttribute("aria-describedby");
    this.explained = card;
    this.about.hidden = card === null;
    if (!card) return;
    card.element.setAttribute("aria-describedby", "about");
    this.fill(card);
    const at = card.element.getBoundingClientRect();
    const left = clamp(at.left, 8, innerWidth - this.about.offsetWidth - 8);
    this.about.style.transform = `translate(${Math.round(left)}px, ${Math.round(at.bottom + 6)}px)`;
  }

  private fill(card: Card): void {
    const rows = card.shown?.about ?? [];
    const text = JSON.stringify(rows);
    if (this.about.dataset["text"] === text) return;
    this.about.dataset["text"] = text;
    this.about.replaceChildren(h("dl", {}, ...rows.flatMap(([head, body]) => [h("dt", {}, head), h("dd", {}, body)])));
  }

  // The figures

  private moves(): Shown {
    const { value } = this.cranes;
    if (!value) return this.missing(this.cranes, t("figure.moves.unit"));
    const totals = craneTotals(value);
    const groups = [...value.groups].sort((a, b) => a.group.localeCompare(b.group, undefined, { numeric: true }));
    return {
      value: decimal(totals.moves, totals.moves < 10 ? 1 : 0, language()),
      unit: t("figure.moves.unit"),
      details: [
        t("figure.moves.detail", { mean: decimal(totals.mean, 1, language()) }),
        t("figure.moves.detail2", { teu: decimal(totals.teu, 0, language()), span: spanOf(value) }),
      ],
      old: this.cranes.stale ? this.cranes.age : null,
      bars: groups.map((group) => ({ name: group.group, value: group.moves_per_hour ?? 0 })),
      about: [
        ...frameRows(value, this.path("crane")),
        [
          t("about.perCrane"),
          groups.map((group) => `${group.group} ${decimal(group.moves_per_hour, 1, language())}`).join(" · ") || "–",
        ],
      ],
    };
  }

  private passages(): Shown {
    const { value } = this.gates;
    if (!value) return this.missing(this.gates, t("figure.gates.unit"));
    const totals = gateTotals(value);
    return {
      value: decimal(totals.total, totals.total < 10 ? 1 : 0, language()),
      unit: t("figure.gates.unit"),
      details: [
        t("figure.gates.detail", {
          in: decimal(totals.inward, 0, language()),
          out: decimal(totals.outward, 0, language()),
        }),
        t("figure.window", { span: spanOf(value) }),
      ],
      old: this.gates.stale ? this.gates.age : null,
      about: [
        ...frameRows(value, this.path("gate")),
        [
          t("about.perGate"),
          value.groups.map((group) => `${group.group} ${decimal(group.passages_per_hour, 1, language())}`).join(" · ") || "–",
        ],
      ],
    };
  }

  private messages(): Shown {
    const totals = this.workers();
    return {
      value: threeFigures(totals?.framesPerSecond, language()),
      unit: t("figure.messages.unit"),
      details: [t("figure.messages.detail", { samples: decimal(totals?.samplesPerSecond, 0, language()) })],
      old: this.workerSilence(),
      line: this.rates,
      about: [[t("about.definition"), t("figure.messages.about")], ...this.workerRows()],
    };
  }

  private dataAge(): Shown {
    const totals = this.workers();
    const quiet = isQuiet(this.rates) || this.port.count("live") === 0;
    const lag = t("figure.age.detail", { lag: age(totals?.storeLag, language()) });
    return {
      value: age(quiet ? null : totals?.dataAge, language()),
      unit: "",
      details: quiet ? [t("figure.age.none"), lag] : [lag],
      old: this.workerSilence(),
      about: [[t("about.definition"), t("figure.age.about")], ...this.workerRows()],
    };
  }

  private balance(): Shown {
    const { value } = this.ledger;
    if (!value) return this.missing(this.ledger, "");
    const { frames } = value.total;
    const number = (count: number): string => decimal(count, 0, language());
    const lost = frames.lost_before_journal === null ? t("figure.ledger.unknown") : number(frames.lost_before_journal);
    const difference = ledgerDifference(value);
    return {
      value: value.balanced ? `✓ ${t("figure.ledger.balanced")}` : `✗ ${t("figure.ledger.off", { difference: number(difference) })}`,
      unit: "",
      verdict: value.balanced ? "ok" : "bad",
      details: [
        t("figure.ledger.detail", { received: number(frames.received), windowed: number(frames.windowed) }),
        t("figure.ledger.detail2", {
          late: number(frames.merged_late),
          duplicate: number(frames.duplicate),
          quarantined: number(frames.quarantined),
        }),
      ],
      old: this.ledger.stale ? this.ledger.age : null,
      about: [
        [t("about.definition"), t("figure.ledger.about")],
        ["", t("figure.ledger.shed", { shed: number(frames.shed), lost })],
        [t("about.completeThrough"), clockOf(value.complete_through)],
        [t("about.source"), api.LEDGER_PATH],
      ],
    };
  }

  private devices(): Shown {
    const [live, stale, offline] = [this.port.count("live"), this.port.count("stale"), this.port.count("offline")];
    return {
      value: decimal(live, 0, language()),
      unit: t("figure.devices.of", { total: decimal(this.port.devices.size, 0, language()) }),
      details: [t("figure.devices.detail", { stale, offline })],
      old: this.silence() / 1000 > OLD_S ? this.silence() / 1000 : null,
      about: [
        [t("about.definition"), t("figure.devices.about")],
        [t("about.source"), "/v1/devices, /v1/stream"],
      ],
    };
  }

  private missing(polled: Polled<unknown>, unit: string): Shown {
    const about: Rows = polled.error ? [["", t("figure.unavailable", { error: polled.error })]] : [["", t("empty.loading")]];
    return { value: "–", unit, details: [], old: null, about };
  }

  /** The newest totals of the workers, however old: a figure greys and says its age, it does not vanish. */
  private workers(): WorkerTotals | null {
    const now = performance.now();
    const totals = this.port.workerTotals(now);
    if (totals) this.lastWorkers = { totals, at: now };
    return this.lastWorkers?.totals ?? null;
  }

  private workerSilence(): number | null {
    if (!this.lastWorkers) return null;
    const seconds = Math.max(this.silence(), performance.now() - this.lastWorkers.at) / 1000;
    return seconds > OLD_S ? seconds : null;
  }

  private workerRows(): Rows {
    return this.port
      .liveWorkers(performance.now())
      .map((status) => [status.worker, `${status.broker_url} · ${status.broker} · ${status.version}`] as const);
  }

  private takeRate(): void {
    const totals = this.port.workerTotals(performance.now());
    if (!totals) return;
    this.rates.push(totals.framesPerSecond);
    if (this.rates.length > RATE_POINTS) this.rates.shift();
  }
}

/** The length of an answer's range, such as `15 min`. */
function spanOf(answer: FigureFrame): string {
  return age((epochMs(answer.end) - epochMs(answer.start)) / 1000, language());
}

/** Whether no message has come for a while, by the newest rates. */
export const isQuiet = (rates: readonly number[]): boolean => rates.length >= QUIET_POINTS && rates.slice(-QUIET_POINTS).every((rate) => rate === 0);

/** A definition in the language of the page; one that the page does not know stays as the API says it. */
export function wordsOf(definition: Definition, shown: Language = language()): Definition {
  const words = shown === "zh" ? DEFINITIONS[`${definition.id}/${definition.version}`] : undefined;
  return { ...definition, ...words };
}

/** What every KPI answer says about itself. */
function frameRows(answer: FigureFrame, path: string): (readonly [string, string])[] {
  const definition = wordsOf(answer.definition);
  const rows: [string, string][] = [
    [t("about.definition"), `${definition.name ?? definition.id} (${definition.id} v${definition.version}): ${definition.description}`],
  ];
  if (definition.numerator) rows.push([t("about.numerator"), definition.numerator]);
  if (definition.denominator) rows.push([t("about.denominator"), definition.denominator]);
  rows.push(
    [t("about.range"), `${clockOf(answer.start)} – ${clockOf(answer.end)}`],
    [t("about.coverage"), answer.coverage_percent === null ? "–" : `${decimal(answer.coverage_percent, 1, language())} %`],
    [t("about.completeThrough"), clockOf(answer.complete_through)],
    [t("about.observations"), decimal(answer.observations, 0, language())],
    [t("about.corrections"), decimal(answer.corrections, 0, language())],
    [t("about.source"), api.curlCommand(location.origin, path)],
  );
  return rows;
}

/** Bars or a line at the right of a card; the numbers stand in the explanation. */
function drawTrace(element: HTMLElement, shown: Shown): void {
  const { bars, line } = shown;
  const key = JSON.stringify([bars ?? null, line ?? null]);
  if (element.dataset["key"] === key) return;
  element.dataset["key"] = key;
  const plot = element.querySelector("svg")!;
  const names = bars && bars.length <= MOST_NAMES ? bars.map((bar) => h("span", {}, shortName(bar.name))) : [];
  element.querySelector(".names")!.replaceChildren(...names);
  if (bars && bars.length > 0) plot.replaceChildren(...barShapes(bars));
  else if (line && line.length > 1) plot.replaceChildren(lineShape(line));
  else plot.replaceChildren();
}

function barShapes(bars: readonly Bar[]): SVGElement[] {
  const top = Math.max(1, ...bars.map((bar) => bar.value));
  const pitch = TRACE.width / bars.length;
  return bars.map((bar, index) => {
    const height = Math.max(0.8, (bar.value / top) * TRACE.height);
    return svg("rect", { class: "bar", x: index * pitch + pitch * 0.14, y: TRACE.height - height, width: pitch * 0.72, height });
  });
}

function lineShape(line: readonly number[]): SVGElement {
  const top = Math.max(1, ...line);
  const at = (value: number, index: number): string =>
    `${((index + RATE_POINTS - line.length) / (RATE_POINTS - 1)) * TRACE.width},${TRACE.height - (value / top) * (TRACE.height - 2)}`;
  return svg("polyline", { class: "line", points: line.map(at).join(" ") });
}

/** The end of a name that tells it from its neighbours: QC01 → 01. */
function shortName(name: string): string {
  return /\d+$/.exec(name)?.[0] ?? name.slice(-3);
}
