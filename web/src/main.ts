/** Wires the page: state, stream, map, figures, chart, list and feed. */

import "./style.css";

import * as api from "./api";
import { ChartPanel } from "./chart";
import { inBrief, inFull } from "./describe";
import { DeviceList } from "./devicelist";
import { DevicePanel } from "./devicepanel";
import { byId, copy, setText } from "./dom";
import { Feed } from "./feed";
import { Figures } from "./figures";
import { firstReading } from "./firstreading";
import { age, localClock, utcClock, zoneOffset } from "./format";
import { language, onLanguage, setLanguage, t } from "./i18n";
import { YardMap } from "./map";
import { Polled } from "./polled";
import { Port } from "./port";
import { initialLanguage, initialTheme, onSystemTheme, rememberLanguage, rememberTheme, type Theme } from "./prefs";
import { Stream } from "./stream";
import { UnknownNames } from "./unknownnames";

const DEVICES_MS = 10_000;
const ASK_MS = 1_000;
const FIRST_EVENTS = 60;
const ZOOM = 1.35;

/** A lost connection is said across the page after this long, s: a server that restarts is back before. */
const LOST_S = 2;
const SILENT_S = 8;

/** A broker that is not heard is said after this long, s: one that restarts is back before. */
const UNHEARD_S = 4;

/** What tests may look at; nothing here changes anything. */
export interface Hook {
  positions(): ReturnType<YardMap["positions"]>;
  state(): { link: string; devices: number; events: number; chart: ChartPanel["shown"]; language: string; theme: string };
  /** Failures of the latest requests; an answer of an unexpected shape is one. */
  problems(): readonly string[];
}

declare global {
  interface Window {
    quayflow?: Hook;
  }
}

const port = new Port();
let selected: string | null = null;
let asking = false;

/** Since when nothing has come from the broker, as of performance.now(); NaN while something does. */
let unheardSince = Number.NaN;
let theme: Theme = initialTheme();

const map = new YardMap(byId("map", HTMLCanvasElement), byId("map-tooltip", HTMLDivElement), port, {
  onSelect: select,
  describe: inFull,
});
const chart = new ChartPanel(port);
const panel = new DevicePanel(
  (uid) => port.devices.get(uid)?.info["simulated"] === true,
  (uid, unknown) => port.setUnknownNames(uid, unknown),
);
const open = (uid: string): void => panel.open(uid);
const list = new DeviceList(port, inBrief, select, open);
const feed = new Feed(select, open);
const stream = new Stream({
  onHello: (renewed) => {
    if (renewed) {
      port.clear();
      feed.clear();
      selected = null;
    }
    void devices.refresh();
  },
  onLive: (live) => {
    if (!port.takeLive(live, performance.now())) askForNew();
  },
  onEvent: (event) => {
    if (!port.takeEvent(event, performance.now())) askForNew();
    feed.take(event);
  },
  onStatus: (status) => port.takeStatus(status, performance.now()),
  onBroker: (broker) => {
    unheardSince = broker.heard ? Number.NaN : performance.now() - broker.silent_s * 1000;
    showLink();
  },
  onLink: showLink,
});
const figures = new Figures(
  port,
  () => stream.silence,
  ({ total }) => feed.setRefusalCount(total.frames.quarantined, total.samples.quarantined),
);
const unknownNames = new UnknownNames(port, api.names);
const devices = new Polled(api.devices, DEVICES_MS, () => {
  if (devices.value && devices.error === null) {
    port.takeDevices(devices.value, performance.now());
    void unknownNames.look();
  }
  showEmpty();
});

const registry = new Polled(api.registered, DEVICES_MS, () => {
  if (registry.value) port.takeRegistered(registry.value);
});

/** Something new speaks: list the devices again, not more than once a second however many come. */
function askForNew(): void {
  if (asking) return;
  asking = true;
  setTimeout(() => {
    asking = false;
    void devices.refresh();
  }, ASK_MS);
}

function select(uid: string): void {
  if (port.devices.has(uid)) mark(uid);
  else list.select(uid);
  panel.follow(uid);
}

function mark(uid: string): void {
  const device = port.devices.get(uid);
  if (!device) return;
  const again = selected === uid;
  selected = uid;
  map.select(uid);
  list.select(uid);
  if (!again) chart.show(device);
  setText(byId("announcer", HTMLParagraphElement), t("map.selected", { device: inFull(device).slice(0, 2).join(", ") }));
}

/** Nothing chosen yet: the first quay crane, or whatever there is, so that the chart shows something. */
function selectFirst(): void {
  if (selected !== null) return;
  const known = [...port.devices.values()].filter((device) => device.listed && device.values.size > 0);
  const cranes = known.filter((device) => device.class === "quay-crane").sort((a, b) => a.id.localeCompare(b.id));
  const first = port.devices.get(panel.shown ?? "") ?? cranes[0] ?? known[0];
  if (first) mark(first.uid);
}

function setTheme(chosen: Theme): void {
  theme = chosen;
  document.documentElement.dataset["theme"] = chosen;
  map.setTheme(chosen);
  chart.setTheme(chosen);
  for (const button of document.querySelectorAll<HTMLElement>("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset["themeChoice"] === chosen));
  }
}

/** For how long nothing has come from the broker, s, where that is to be said; null where it is not. */
function brokerSilence(): number | null {
  const seconds = (performance.now() - unheardSince) / 1000;
  return stream.state === "live" && seconds >= UNHEARD_S ? seconds : null;
}

function showLink(): void {
  const unheard = brokerSilence();
  const state = unheard === null ? stream.state : "unheard";
  const link = byId("link", HTMLParagraphElement);
  link.dataset["state"] = state;
  const silence = age(unheard ?? stream.silence / 1000, language());
  const text = state === "connecting" || state === "live" ? t(`link.${state}`) : t(`link.${state}`, { age: silence });
  setText(byId("link-text", HTMLSpanElement), text);
  showBanner();
}

/** The one thing that is most wrong, in a sentence across the page. */
function showBanner(): void {
  const banner = byId("banner", HTMLParagraphElement);
  const now = performance.now();
  const silence = stream.silence / 1000;
  const workers = port.liveWorkers(now);
  const cutOff = workers.find((status) => status.broker !== "connected");
  const unwritable = workers.find((status) => status.journal !== "ok");
  let text = "";
  const lost = stream.state === "reconnecting" && silence > LOST_S;
  const silent = stream.state === "stale" && silence > SILENT_S;
  const unheard = brokerSilence();
  document.body.classList.toggle("old", lost || silent || unheard !== null);
  if (lost) text = t("link.banner", { age: age(silence, language()) });
  else if (silent) text = t("link.silent", { age: age(silence, language()) });
  else if (unwritable) text = t("link.journalError", { error: unwritable.journal });
  else if (unheard !== null) text = t("link.brokerUnheard", { age: age(unheard, language()) });
  else if (cutOff) text = t("link.brokerAbsent", { broker: cutOff.broker_url });
  else if (stream.state === "live" && workers.length === 0 && now > 15_000) text = t("link.workerSilent");
  setText(banner, text);
  banner.hidden = text === "";
}

function showEmpty(): void {
  const empty = byId("empty", HTMLDivElement);
  empty.hidden = port.devices.size > 0;
  if (empty.hidden) return;
  const { error } = devices;
  const none = error === null && devices.value !== null;
  const [worker] = port.liveWorkers(performance.now());
  const first = firstReading(worker?.broker_url ?? "", port.sites[0] ?? "CNNGB-DEMO");
  setText(byId("empty-title", HTMLHeadingElement), error === null && !none ? t("empty.loading") : t("empty.title"));
  setText(byId("empty-text", HTMLParagraphElement), error !== null ? t("empty.unreachable", { error }) : none ? t(first.secured ? "empty.textSecured" : "empty.text") : "");
  const command = byId("empty-command", HTMLPreElement);
  setText(command, first.command);
  command.hidden = !none;
  byId("empty-copy", HTMLButtonElement).hidden = !none;
}

function tick(): void {
  const now = new Date();
  setText(byId("clock-local", HTMLElement), localClock(now));
  setText(byId("clock-zone", HTMLSpanElement), `${t("clock.local")} ${zoneOffset(now)}`);
  setText(byId("clock-utc", HTMLElement), utcClock(now));
  showLink();
  showEmpty();
}

function listenToSwitches(): void {
  for (const button of document.querySelectorAll<HTMLElement>("[data-language]")) {
    button.addEventListener("click", () => {
      const chosen = button.dataset["language"] === "zh" ? "zh" : "en";
      rememberLanguage(chosen);
      setLanguage(chosen);
    });
  }
  for (const button of document.querySelectorAll<HTMLElement>("[data-theme-choice]")) {
    button.addEventListener("click", () => {
      const chosen = button.dataset["themeChoice"] === "dark" ? "dark" : "light";
      rememberTheme(chosen);
      setTheme(chosen);
    });
  }
  byId("zoom-in", HTMLButtonElement).addEventListener("click", () => map.zoom(ZOOM));
  byId("zoom-out", HTMLButtonElement).addEventListener("click", () => map.zoom(1 / ZOOM));
  byId("zoom-fit", HTMLButtonElement).addEventListener("click", () => map.showAll());
  byId("empty-copy", HTMLButtonElement).addEventListener("click", () => void copy(byId("empty-command", HTMLPreElement).textContent ?? ""));
  onSystemTheme(setTheme);
}

async function start(): Promise<void> {
  onLanguage(() => {
    for (const button of document.querySelectorAll<HTMLElement>("[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset["language"] === language()));
    }
    map.redrawGround();
    tick();
  });
  port.on("devices", () => {
    setText(byId("site", HTMLElement), port.sites.join(", ") || "–");
    selectFirst();
    showEmpty();
  });
  listenToSwitches();
  setTheme(theme);
  setLanguage(initialLanguage());
  setInterval(tick, 1_000);
  panel.followAddress();
  figures.start();
  devices.start();
  registry.start();
  try {
    const page = await api.newestEvents(FIRST_EVENTS);
    feed.takePage(page.items);
    stream.know(Math.max(0, ...page.items.map((event) => event.cursor)));
  } catch {
    // The feed starts empty; the stream brings what happens from now on.
  }
  stream.start();
}

window.quayflow = {
  positions: () => map.positions(),
  state: () => ({
    link: stream.state,
    devices: port.devices.size,
    events: feed.eventCount,
    chart: chart.shown,
    language: language(),
    theme,
  }),
  problems: () => [devices.error, registry.error, ...figures.errors, chart.failure, feed.failure, panel.failure].filter((error) => error !== null),
};

void start();
