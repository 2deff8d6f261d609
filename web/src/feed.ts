/** The newest port events, and beside them the newest refusals. */

import type { PortEvent, Refusal } from "./answers";
import * as api from "./api";
import { detailOf } from "./details";
import { byId, h, setText } from "./dom";
import { failureOf } from "./failures";
import { clockOf, decimal } from "./format";
import { countOf, language, named, onLanguage, t, type Key } from "./i18n";

const MOST_EVENTS = 200;
const REFUSALS = 50;
const REFUSALS_MS = 3_000;

const MOVE_KINDS: Readonly<Record<string, Key>> = {
  discharge: "feed.move.discharge",
  load: "feed.move.load",
  shift: "feed.move.shift",
};
const PASSAGES: Readonly<Record<string, Key>> = { in: "feed.passage.in", out: "feed.passage.out" };

/** What an event says, in parts: what happened, and its particulars. */
export function sentence(event: PortEvent): { what: string; particulars: string } {
  const { data, type } = event;
  const number = (name: string, digits: number): string | null => {
    const value = data[name];
    return typeof value === "number" ? decimal(value, digits, language()) : null;
  };
  const joined = (...parts: readonly (string | null)[]): string => parts.filter((part) => part !== null).join(" · ");
  const optional = (text: string | null, show: (text: string) => string): string | null => (text === null ? null : show(text));
  if (type === "crane_move") {
    const cycle = optional(number("cycle_s", 0), (seconds) => t("feed.cycle", { seconds }));
    return {
      what: t(MOVE_KINDS[String(data["kind"])] ?? "feed.move"),
      particulars: joined(optional(number("teu", 2), (teu) => `${teu} TEU`), cycle),
    };
  }
  if (type === "yard_move") return { what: t("feed.yardMove"), particulars: joined(optional(number("load_t", 1), (value) => t("feed.load", { value }))) };
  if (type === "gate_passage") {
    const tag = event.carrier?.id ?? (typeof data["tag"] === "string" ? `…${data["tag"].slice(-6)}` : null);
    const reads = optional(number("reads", 0), (count) => t("feed.reads", { count }));
    return { what: t(PASSAGES[String(data["direction"])] ?? "feed.passage"), particulars: joined(tag, reads) };
  }
  if (type === "device_online") return { what: t("feed.online"), particulars: "" };
  if (type === "device_offline") return { what: t("feed.offline"), particulars: "" };
  return { what: type, particulars: "" };
}

export class Feed {
  private readonly eventList = byId("events", HTMLDivElement);
  private readonly refusalList = byId("refusals", HTMLDivElement);
  private readonly refusalCount = byId("refusal-count", HTMLElement);
  private readonly eventTab = byId("tab-events", HTMLButtonElement);
  private readonly refusalTab = byId("tab-refusals", HTMLButtonElement);
  private events: PortEvent[] = [];
  private refusals: readonly Refusal[] | null = null;
  private refusalError: string | null = null;
  private timer = 0;

  constructor(
    private readonly onSelect: (uid: string) => void,
    private readonly onOpen: (uid: string) => void,
  ) {
    this.eventTab.addEventListener("click", () => this.open("events"));
    this.refusalTab.addEventListener("click", () => this.open("refusals"));
    for (const tab of [this.eventTab, this.refusalTab]) {
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = tab === this.eventTab ? this.refusalTab : this.eventTab;
        other.focus();
        other.click();
      });
    }
    this.eventList.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-uid]") : null;
      if (row?.dataset["uid"]) this.onSelect(row.dataset["uid"]);
    });
    this.refusalList.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest<HTMLElement>("button[data-uid]") : null;
      if (row?.dataset["uid"]) this.onOpen(row.dataset["uid"]);
    });
    onLanguage(() => {
      this.drawEvents();
      this.drawRefusals();
    });
  }

  clear(): void {
    this.events = [];
    this.drawEvents();
  }

  /** Take events of the past, newest first. */
  takePage(newestFirst: readonly PortEvent[]): void {
    const known = new Set(this.events.map((event) => event.cursor));
    this.events = [...this.events, ...newestFirst.filter((event) => !known.has(event.cursor))]
      .sort((a, b) => b.cursor - a.cursor)
      .slice(0, MOST_EVENTS);
    this.drawEvents();
  }

  /** Take an event that has just happened. */
  take(event: PortEvent): void {
    this.events.unshift(event);
    if (this.events.length === 1) this.eventList.replaceChildren();
    const element = eventRow(event);
    element.classList.add("fresh");
    this.eventList.prepend(element);
    if (this.events.length > MOST_EVENTS) {
      this.events.pop();
      this.eventList.lastElementChild?.remove();
    }
  }

  setRefusalCount(messages: number, values: number): void {
    setText(this.refusalCount, messages + values === 0 ? "0" : countOf(messages, values));
    this.refusalTab.classList.toggle("some", messages + values > 0);
  }

  get eventCount(): number {
    return this.events.length;
  }

  /** Why the latest list of refusals could not be loaded, or null. */
  get failure(): string | null {
    return this.refusalError;
  }

  private open(panel: "events" | "refusals"): void {
    const refusals = panel === "refusals";
    this.eventTab.setAttribute("aria-selected", String(!refusals));
    this.refusalTab.setAttribute("aria-selected", String(refusals));
    this.eventList.hidden = refusals;
    this.refusalList.hidden = !refusals;
    clearInterval(this.timer);
    if (!refusals) return;
    this.drawRefusals();
    void this.loadRefusals();
    this.timer = window.setInterval(() => void this.loadRefusals(), REFUSALS_MS);
  }

  private async loadRefusals(): Promise<void> {
    try {
      this.refusals = (await api.newestRefusals(REFUSALS)).items;
      this.refusalError = null;
    } catch (reason) {
      this.refusalError = failureOf(reason);
    }
    this.drawRefusals();
  }

  private drawEvents(): void {
    const rows = this.events.map((event) => eventRow(event));
    this.eventList.replaceChildren(...(rows.length ? rows : [h("p", { class: "note" }, t("feed.empty"))]));
  }

  private drawRefusals(): void {
    if (this.refusalList.hidden) return;
    const { refusals } = this;
    let intro = t("refusals.intro");
    if (this.refusalError !== null) intro = t("refusals.failed", { error: this.refusalError });
    else if (refusals === null) intro = t("empty.loading");
    else if (refusals.length === 0) intro = t("refusals.empty");
    this.refusalList.replaceChildren(h("p", { class: "note" }, intro), ...(refusals ?? []).map((refusal) => refusalRow(refusal)));
  }
}

function eventRow(event: PortEvent): HTMLElement {
  const { what, particulars } = sentence(event);
  return h(
    "div",
    { class: "event", "data-type": event.type, "data-uid": `${event.site}/${event.class}/${event.device}`, title: event.time },
    h("time", { datetime: event.time }, clockOf(event.time)),
    h("b", {}, event.device),
    h("span", { class: "what" }, what),
    h("span", { class: "particulars" }, particulars),
  );
}

function refusalRow(refusal: Refusal): HTMLElement {
  return h(
    "div",
    { class: "refusal" },
    h(
      "p",
      {},
      h("time", { datetime: refusal.received }, clockOf(refusal.received)),
      h("b", { title: refusal.reason }, named("reason", refusal.reason)),
      h("code", {}, refusal.pointer || t("refusals.whole")),
    ),
    h("p", { class: "particulars" }, detailOf(refusal)),
    h(
      "p",
      {},
      h("code", { class: "topic" }, refusal.topic),
      refusal.uid ? h("button", { type: "button", class: "open", "data-uid": refusal.uid }, t("devices.open")) : null,
    ),
  );
}
