/** One device for the field engineer: why it is silent, the command to try, its unknown names, and what was refused. */

import type { Health, Refusal } from "./answers";
import * as api from "./api";
import { Commands } from "./commands";
import { detailOf } from "./details";
import { byId, copy, h, setText } from "./dom";
import { failureOf } from "./failures";
import { age, decimal, stampOf } from "./format";
import { countOf, language, named, onLanguage, t, type Key } from "./i18n";
import { Names } from "./names";
import { Secret } from "./secret";

const HEALTH_MS = 2_000;
const DETAILS_MS = 4_000;
const REFUSALS = 20;
const COPIED_MS = 1_500;

/** Part of the address that names the device whose panel is open. */
const HASH = "#device=";

const CREDENTIALS: Readonly<Record<string, Key>> = { password: "device.password", certificate: "device.certificate" };

/** The uid that an address names, or null. */
export function uidOf(hash: string): string | null {
  if (!hash.startsWith(HASH)) return null;
  try {
    const uid = decodeURIComponent(hash.slice(HASH.length)).replaceAll("~", "/");
    return uid.split("/").length === 3 ? uid : null;
  } catch {
    return null;
  }
}

/** Whether something is refused now that was not in an earlier answer. */
export const refusedSince = (before: Health, now: Health): boolean =>
  Object.entries(now.refused).some(([reason, { messages, values }]) => {
    const then = before.refused[reason] ?? { messages: 0, values: 0 };
    return messages > then.messages || values > then.values;
  });

export class DevicePanel {
  private readonly panel = byId("device", HTMLElement);
  private readonly head = byId("device-head", HTMLDivElement);
  private readonly title = byId("device-title", HTMLHeadingElement);
  private readonly about = byId("device-about", HTMLSpanElement);
  private readonly verdict = byId("device-verdict", HTMLParagraphElement);
  private readonly facts = byId("device-facts", HTMLDListElement);
  private readonly command = byId("device-command", HTMLPreElement);
  private readonly copyButton = byId("device-copy", HTMLButtonElement);
  private readonly fill = byId("device-fill", HTMLParagraphElement);
  private readonly waiting = byId("device-waiting", HTMLParagraphElement);
  private readonly refused = byId("device-refused", HTMLParagraphElement);
  private readonly counts = byId("device-refused-counts", HTMLUListElement);
  private readonly entries = byId("device-refusals-note", HTMLParagraphElement);
  private readonly refusals = byId("device-refusals", HTMLDivElement);
  private readonly secret = new Secret();
  private readonly names: Names;
  private readonly commands: Commands;
  private uid: string | null = null;
  private first: Health | null = null;
  private health: Health | null = null;
  private error: string | null = null;
  private newest: readonly Refusal[] | null = null;
  private returnTo: Element | null = null;

  /** `isSimulated`: as for `Commands`. `onNames` is told whether a device has names that are refused and without a meaning. */
  constructor(isSimulated: (uid: string) => boolean, onNames: (uid: string, someUnknown: boolean) => void) {
    this.names = new Names(this.secret, onNames);
    this.commands = new Commands(this.secret, isSimulated);
    byId("device-close", HTMLButtonElement).addEventListener("click", () => this.close());
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    this.copyButton.addEventListener("click", () => void this.copied());
    window.addEventListener("hashchange", () => this.followAddress());
    onLanguage(() => {
      this.names.redraw();
      this.draw();
      if (this.uid !== null) void this.loadDetails();
    });
    setInterval(() => void this.loadHealth(), HEALTH_MS);
    setInterval(() => void this.loadDetails(), DETAILS_MS);
  }

  /** The device whose panel is open, or null. */
  get shown(): string | null {
    return this.uid;
  }

  /** Why the latest answer could not be had, or null. */
  get failure(): string | null {
    return this.error;
  }

  /** Open the panel of the device that the address names, or close it where it names none. */
  followAddress(): void {
    const uid = uidOf(location.hash);
    if (uid !== null) this.open(uid);
    else if (this.uid !== null && location.hash === "") this.close();
  }

  open(uid: string): void {
    if (this.uid === null) this.returnTo = document.activeElement;
    const again = this.uid === uid;
    this.uid = uid;
    this.panel.hidden = false;
    const hash = `${HASH}${uid.replaceAll("/", "~")}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
    if (!again) {
      this.first = this.health = this.newest = this.error = null;
      this.secret.close();
      this.names.open(uid);
      this.commands.open(uid);
      this.draw();
      void this.loadHealth();
      void this.loadDetails();
    }
    this.title.focus();
  }

  /** Show another device where the panel is open; the focus stays where it is. */
  follow(uid: string): void {
    if (this.uid === null || this.uid === uid) return;
    const focused = document.activeElement;
    this.open(uid);
    if (focused instanceof HTMLElement) focused.focus();
  }

  close(): void {
    this.uid = null;
    this.panel.hidden = true;
    history.replaceState(null, "", location.pathname + location.search);
    if (this.returnTo instanceof HTMLElement) this.returnTo.focus();
  }

  private async loadHealth(): Promise<void> {
    const { uid } = this;
    if (uid === null) return;
    try {
      const found = await api.health(uid);
      if (uid !== this.uid) return;
      this.health = found;
      this.first ??= found;
      this.error = null;
    } catch (reason) {
      if (uid !== this.uid) return;
      this.error = failureOf(reason);
    }
    this.draw();
  }

  private async loadDetails(): Promise<void> {
    const { uid } = this;
    if (uid === null) return;
    try {
      const [page] = await Promise.all([api.refusalsOf(uid, REFUSALS), this.names.load()]);
      if (uid !== this.uid) return;
      this.newest = page.items;
      this.drawRefusals();
    } catch (reason) {
      if (uid === this.uid) this.error = failureOf(reason);
    }
  }

  private async copied(): Promise<void> {
    if (!this.health) return;
    const done = await copy(this.health.publish);
    setText(this.copyButton, done ? t("chart.copied") : t("chart.copyFailed"));
    setTimeout(() => setText(this.copyButton, t("device.copy")), COPIED_MS);
  }

  private draw(): void {
    const { uid, health } = this;
    if (uid === null) return;
    const [site = "", deviceClass = "", id = ""] = uid.split("/");
    setText(this.title, id);
    setText(this.about, `${named("class", deviceClass)} · ${site}`);
    this.head.dataset["state"] = health === null ? "connecting" : health.live ? "live" : health.online ? "stale" : "offline";
    this.drawVerdict();
    setText(this.command, health?.publish ?? "");
    this.copyButton.disabled = health === null;
    const fill = health?.credential === "password" ? t("device.fillPassword") : health?.credential ? t("device.fillFiles") : "";
    setText(this.fill, fill);
    this.fill.hidden = fill === "";
    this.drawArrivals();
    this.facts.replaceChildren(...(health ? factsOf(health) : []).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    this.drawRefusals();
  }

  private drawVerdict(): void {
    const { health } = this;
    this.verdict.dataset["verdict"] = this.error !== null ? "bad" : (health?.cause ?? "");
    this.verdict.classList.toggle("ok", health?.live === true && this.error === null);
    if (this.error !== null) setText(this.verdict, t("device.failed", { error: this.error }));
    else if (health === null) setText(this.verdict, t("empty.loading"));
    else setText(this.verdict, sentenceOf(health));
  }

  /** The tick: what has arrived since the panel was opened, and what of it was refused. */
  private drawArrivals(): void {
    const { first, health } = this;
    const count = first && health ? health.accepted - first.accepted : 0;
    this.waiting.dataset["state"] = count > 0 ? "accepted" : "waiting";
    const last = stampOf(health?.last_seen, new Date());
    setText(this.waiting, count > 0 ? t("device.accepted", { count: decimal(count, 0, language()), last }) : t("device.waiting"));
    const newest = health?.refusals[0];
    const bad = first !== null && health !== null && newest !== undefined && refusedSince(first, health);
    this.refused.hidden = !bad;
    this.refused.dataset["state"] = "refused";
    setText(this.refused, bad ? t("device.refused", { reason: named("reason", newest.reason), detail: detailOf(newest) }) : "");
  }

  private drawRefusals(): void {
    const { newest, health } = this;
    const counts = Object.entries(health?.refused ?? {}).map(([reason, count]) =>
      h("li", {}, h("b", { title: reason }, named("reason", reason)), " ", countOf(count.messages, count.values)),
    );
    this.counts.replaceChildren(...counts);
    this.entries.hidden = counts.length === 0;
    if (newest === null) this.refusals.replaceChildren(h("p", { class: "note" }, t("empty.loading")));
    else if (newest.length === 0) this.refusals.replaceChildren(h("p", { class: "note" }, t("device.refusalsNone")));
    else this.refusals.replaceChildren(...newest.map((refusal) => refusalRow(refusal)));
  }
}

/** Why the device is silent, or how it is live, in a sentence. */
function sentenceOf(health: Health): string {
  const [last] = health.refusals;
  const silent = age(health.silent_s, language());
  if (health.cause === "not_admitted") return t(health.registered ? "cause.disabled" : "cause.not_admitted");
  return t(`cause.${health.cause}`, {
    age: silent,
    skew: age(Math.abs(health.skew_s ?? 0), language()),
    direction: t((health.skew_s ?? 0) > 0 ? "device.behind" : "device.ahead"),
    reason: last ? named("reason", last.reason) : "",
    detail: last ? detailOf(last) : "",
  });
}

function factsOf(health: Health): [string, string][] {
  const shown = (value: number | null): string => decimal(value, 0, language());
  const yes = (value: boolean): string => t(value ? "device.yes" : "device.no");
  const now = new Date();
  const key = CREDENTIALS[health.credential ?? ""];
  const skew = health.skew_s;
  return [
    [t("device.registered"), yes(health.registered)],
    [t("device.admitted"), yes(health.admitted)],
    [t("device.credential"), key ? t(key) : t("device.none")],
    [t("device.online"), yes(health.online)],
    [t("device.firstSeen"), stampOf(health.first_seen, now)],
    [t("device.lastSeen"), stampOf(health.last_seen, now)],
    [t("device.rate"), health.rate_hz === null ? "–" : `${decimal(health.rate_hz, 2, language())} ${t("figure.messages.unit")}`],
    [t("device.skew"), skew === null ? "–" : `${age(Math.abs(skew), language())} ${Math.abs(skew) < 0.001 ? "" : t(skew > 0 ? "device.behind" : "device.ahead")}`],
    [t("device.received"), shown(health.frames)],
    [t("device.kept"), shown(health.accepted)],
    [t("device.duplicate"), shown(health.duplicate)],
    [t("device.refusedWhole"), shown(Object.values(health.refused).reduce((sum, { messages }) => sum + messages, 0))],
    [t("device.lost"), health.lost_before_journal === null ? t("figure.ledger.unknown") : shown(health.lost_before_journal)],
  ];
}

function refusalRow(refusal: Refusal): HTMLElement {
  const payload = refusal.payload_encoding === "utf-8" ? refusal.payload : `base64 ${refusal.payload}`;
  return h(
    "div",
    { class: "refusal" },
    h(
      "p",
      {},
      h("time", { datetime: refusal.received }, stampOf(refusal.received, new Date())),
      h("b", { title: refusal.reason }, named("reason", refusal.reason)),
      h("code", {}, refusal.pointer || t("refusals.whole")),
    ),
    h("p", { class: "particulars" }, detailOf(refusal)),
    h("code", { class: "payload", title: refusal.topic }, payload.slice(0, 300)),
  );
}
