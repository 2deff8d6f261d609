/** The searchable list of devices: the map's equal for the keyboard and for screen readers. */

import { byId, h, setText } from "./dom";
import { age } from "./format";
import { language, named, onLanguage, t } from "./i18n";
import type { Port, PortDevice } from "./port";

/** Rows beyond this are not built; the search narrows them down. */
const MOST_ROWS = 300;

const CLASS_ORDER = ["quay-crane", "yard-crane", "rfid-gate", "vehicle", "park-sensor"];

/** Devices that match a search (every word in id, class or info), cranes first, then by name. */
export function matching(
  devices: Iterable<PortDevice>,
  query: string,
  deviceClass: string,
  className: (name: string) => string,
): PortDevice[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: PortDevice[] = [];
  for (const device of devices) {
    if (deviceClass && device.class !== deviceClass) continue;
    const text = [device.id, device.class, className(device.class), ...Object.values(device.info)].join(" ").toLowerCase();
    if (words.every((word) => text.includes(word))) found.push(device);
  }
  const rank = (device: PortDevice): number => (CLASS_ORDER.indexOf(device.class) + CLASS_ORDER.length + 1) % (CLASS_ORDER.length + 1);
  return found.sort((a, b) => rank(a) - rank(b) || a.id.localeCompare(b.id, undefined, { numeric: true }));
}

export class DeviceList {
  private readonly list = byId("device-list", HTMLUListElement);
  private readonly note = byId("device-note", HTMLParagraphElement);
  private readonly search = byId("device-search", HTMLInputElement);
  private readonly classes = byId("device-class", HTMLSelectElement);
  private readonly opener = byId("device-open", HTMLButtonElement);
  private shown: PortDevice[] = [];
  private chosen: string | null = null;
  private scheduled = false;

  constructor(
    private readonly port: Port,
    private readonly describe: (device: PortDevice) => string,
    private readonly onSelect: (uid: string) => void,
    private readonly onOpen: (uid: string) => void,
  ) {
    this.search.addEventListener("input", () => this.draw());
    this.classes.addEventListener("change", () => this.draw());
    this.list.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest("li") : null;
      if (row?.dataset["uid"]) this.onSelect(row.dataset["uid"]);
    });
    this.list.addEventListener("dblclick", () => this.open());
    this.opener.addEventListener("click", () => this.open());
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown") return;
      event.preventDefault();
      this.list.focus();
      this.step(0);
    });
    port.on("devices", () => this.schedule());
    onLanguage(() => {
      this.drawClasses();
      this.draw();
    });
    setInterval(() => this.refresh(), 1_000);
  }

  select(uid: string): void {
    this.chosen = uid;
    this.opener.disabled = false;
    this.markChosen();
    this.list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.drawClasses();
      this.draw();
    });
  }

  private drawClasses(): void {
    const chosen = this.classes.value;
    const known = [...new Set(this.everyone().map((device) => device.class))];
    known.sort((a, b) => CLASS_ORDER.indexOf(a) - CLASS_ORDER.indexOf(b));
    const options = [h("option", { value: "" }, t("devices.allClasses"))];
    for (const name of known) options.push(h("option", { value: name }, named("class", name)));
    const text = options.map((option) => option.textContent).join();
    if (this.classes.dataset["text"] === text) return;
    this.classes.dataset["text"] = text;
    this.classes.replaceChildren(...options);
    this.classes.value = known.includes(chosen) ? chosen : "";
  }

  /** Those heard, and those registered and never heard: it is these that somebody has to look after. */
  private everyone(): PortDevice[] {
    return [...this.port.devices.values(), ...this.port.unheard];
  }

  private draw(): void {
    const found = matching(this.everyone(), this.search.value, this.classes.value, (name) => named("class", name));
    const shown = found.slice(0, MOST_ROWS);
    const same = shown.length === this.shown.length && shown.every((device, index) => device === this.shown[index]);
    this.shown = shown;
    if (!same) {
      this.list.replaceChildren(...shown.map((device, index) => row(device, index)));
      this.markChosen();
    }
    this.refresh();
    const more = found.length - shown.length;
    const empty = found.length === 0 && this.port.devices.size > 0;
    setText(this.note, empty ? t("devices.none", { query: this.search.value }) : more > 0 ? t("devices.more", { count: more }) : "");
    this.note.hidden = this.note.textContent === "";
  }

  /** Rewrite what changes by itself: state, the newest value, age. */
  private refresh(): void {
    this.shown.forEach((device, index) => {
      const element = this.list.children[index];
      if (!(element instanceof HTMLElement)) return;
      element.dataset["state"] = device.state;
      const silent = device.state === "live" ? "" : ` · ${age((Date.now() - device.lastSeen) / 1000, language())}`;
      const quiet = Number.isNaN(device.lastSeen) ? t("devices.neverHeard") : `${t(`state.${device.state}`)}${silent}`;
      setText(element.children[2]!, device.state === "live" ? this.describe(device) : quiet);
      element.children[0]!.setAttribute("aria-label", t(`state.${device.state}`));
      element.classList.toggle("unknown-names", device.unknownNames);
      element.title = device.unknownNames ? t("devices.refusedNames") : "";
    });
  }

  private markChosen(): void {
    this.list.removeAttribute("aria-activedescendant");
    this.shown.forEach((device, index) => {
      const element = this.list.children[index]!;
      const selected = device.uid === this.chosen;
      element.setAttribute("aria-selected", String(selected));
      if (selected) this.list.setAttribute("aria-activedescendant", element.id);
    });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key === "Enter") {
      event.preventDefault();
      this.open();
      return;
    }
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity };
    const by = steps[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.step(by);
  }

  private open(): void {
    if (this.chosen !== null) this.onOpen(this.chosen);
  }

  private step(by: number): void {
    if (this.shown.length === 0) return;
    const at = this.shown.findIndex((device) => device.uid === this.chosen);
    const next = Math.min(this.shown.length - 1, Math.max(0, (at < 0 ? 0 : at) + (at < 0 ? 0 : by)));
    this.onSelect(this.shown[next]!.uid);
  }
}

function row(device: PortDevice, index: number): HTMLLIElement {
  return h(
    "li",
    { role: "option", id: `device-row-${index}`, "data-uid": device.uid, "data-class": device.class },
    h("i", { class: "dot", role: "img" }),
    h("b", {}, device.id),
    h("span"),
  );
}
