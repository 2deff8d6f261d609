/** Having a device do something: a form for the command, and what became of those sent from this page, while it happens. */

import * as api from "./api";
import { byId, h, setText } from "./dom";
import { failureOf } from "./failures";
import { clockOf, decimal } from "./format";
import { language, onLanguage, t, type Key } from "./i18n";
import type { Secret } from "./secret";
import type { Scalar } from "./shape";

/** Entries kept of a device; older ones are in the audit trail. */
const KEPT = 8;
const TICK_MS = 500;
const LONGEST_NAME = 64;

/** What became of a command, as far as anybody has said; `unsent`: certainly nobody was given it. */
type State = "sent" | "done" | "refused" | "unanswered" | "unsent";

interface Entry {
  readonly id: string;
  readonly name: string;
  /** Each as JSON. */
  readonly args: Readonly<Record<string, string>>;
  readonly waitSeconds: number;
  sentAt: number;
  state: State;
  /** In the device's own words. */
  detail: string;
  /** Why there is no answer, null where there is one or none is due yet. */
  failure: unknown;
  data: Readonly<Record<string, Scalar>>;
}

/** A fault of what was typed in: which field, and what is wrong with it. */
export interface Fault {
  readonly field: "name" | "args" | "timeout";
  /** The parameter at fault, counted from 0, where it is one. */
  readonly nth?: number;
  readonly key: Key;
  readonly words?: Readonly<Record<string, string | number>>;
}

/**
 * A value as typed, read as the command line reads it: a number, true, false, null, or text. It comes back as JSON: to
 * JavaScript 5 and 5.0 are one, and above 2^53 so are neighbours, but not to the device.
 */
export function jsonOf(typed: string): string {
  const text = typed.trim();
  if (text === "true" || text === "false" || text === "null") return text;
  // What a number is, is what JSON says: no "0x10", no "Infinity", no empty text.
  if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text) && Number.isFinite(Number(text))) return text;
  return JSON.stringify(text.length > 1 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text);
}

/** The arguments of what was typed in, each as JSON, or the fault of it; a row without name and value is none. */
export function argumentsOf(rows: readonly (readonly [string, string])[]): { args: Record<string, string> } | { fault: Fault } {
  const found: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [nth, [typed, value]] of rows.entries()) {
    const name = typed.trim();
    if (name === "" && value.trim() === "") continue;
    if (name === "") return { fault: { field: "args", nth, key: "command.argUnnamed", words: { value } } };
    if (name in found) return { fault: { field: "args", nth, key: "command.argTwice", words: { name } } };
    if (value.trim() === "") return { fault: { field: "args", nth, key: "command.argEmpty", words: { name } } };
    found[name] = jsonOf(value);
  }
  return { args: found };
}

/** The field of the form that a pointer of the API means. */
export function fieldOf(pointer: string): Fault["field"] | null {
  const [, field] = pointer.split("/");
  return field === "name" || field === "args" || field === "timeout" ? field : null;
}

export class Commands {
  private readonly section = byId("device-commands", HTMLElement);
  private readonly form = byId("command-form", HTMLFormElement);
  private readonly name = byId("command-name", HTMLInputElement);
  private readonly rows = byId("command-args", HTMLDivElement);
  private readonly wait = byId("command-timeout", HTMLSelectElement);
  private readonly said = byId("command-said", HTMLParagraphElement);
  private readonly hint = byId("command-hint", HTMLParagraphElement);
  private readonly log = byId("command-log", HTMLUListElement);
  private readonly sent = new Map<string, Entry[]>();
  private uid = "";

  /** `isSimulated` tells of a device whether it is one of the demo's, of which it is known what they can do. */
  constructor(
    private readonly secret: Secret,
    private readonly isSimulated: (uid: string) => boolean,
  ) {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    byId("command-add", HTMLButtonElement).addEventListener("click", () => this.addRow().focus());
    onLanguage(() => {
      for (const row of this.rows.children) this.label(row);
      this.labelWaits();
      this.draw();
    });
    this.labelWaits();
    setInterval(() => this.draw(), TICK_MS);
  }

  /** Show another device's. */
  open(uid: string): void {
    this.uid = uid;
    this.section.hidden = false;
    this.name.value = "";
    this.rows.replaceChildren();
    this.addRow();
    this.say("");
    this.draw();
  }

  private addRow(): HTMLInputElement {
    const [name, value] = [h("input", { class: "arg-name", maxlength: LONGEST_NAME, spellcheck: "false", autocomplete: "off" }), h("input", { class: "arg-value", spellcheck: "false", autocomplete: "off" })];
    const remove = h("button", { type: "button", class: "arg-remove" }, "×");
    const row = h("p", { class: "arg" }, name, h("span", { "aria-hidden": "true" }, "="), value, remove);
    remove.addEventListener("click", () => {
      row.remove();
      if (this.rows.childElementCount === 0) this.addRow();
    });
    this.label(row);
    this.rows.append(row);
    return name;
  }

  private label(row: Element): void {
    const [name, value] = row.querySelectorAll("input");
    for (const [field, key] of [[name!, "command.argName"], [value!, "command.argValue"]] as const) {
      field.placeholder = t(key);
      field.setAttribute("aria-label", t(key));
    }
    const remove = row.querySelector("button")!;
    remove.title = t("command.argRemove");
    remove.setAttribute("aria-label", t("command.argRemove"));
  }

  private labelWaits(): void {
    for (const option of this.wait.options) option.textContent = t("command.seconds", { seconds: option.value });
  }

  private submit(): void {
    this.say("");
    const name = this.name.value.trim();
    const typed = [...this.rows.children].map((row) => [...row.querySelectorAll("input")].map((field) => field.value) as [string, string]);
    const found = argumentsOf(typed);
    if (name === "") this.fault({ field: "name", key: "command.nameMissing" });
    else if ("fault" in found) this.fault(found.fault);
    else this.send({ id: newId(), name, args: found.args, waitSeconds: Number(this.wait.value), sentAt: 0, state: "sent", detail: "", failure: null, data: {} });
  }

  /** Send a command, or ask with its id what became of it. */
  private send(entry: Entry): void {
    const { uid } = this;
    const work = async (secret: string): Promise<void> => {
      entry.sentAt = performance.now();
      entry.state = "sent";
      entry.detail = "";
      entry.failure = null;
      this.say("");
      this.keep(uid, entry);
      try {
        const answer = await api.sendCommand(uid, entry, secret);
        entry.state = answer.outcome;
        entry.detail = answer.detail;
        entry.data = answer.data;
      } catch (reason) {
        this.failed(uid, entry, reason);
      } finally {
        this.draw();
      }
    };
    void this.secret.attempt({ work, place: this.said, say: (text) => this.say(text, "bad") });
  }

  /** Say why there is no answer; what was wrong with the request is said at the form, and nothing was sent. */
  private failed(uid: string, entry: Entry, reason: unknown): void {
    if (!(reason instanceof api.ApiError)) {
      // Whether it arrived at the server is not known either.
      entry.state = "unanswered";
      entry.failure = reason;
      return;
    }
    if (reason.slug === "no-answer") {
      entry.state = "unanswered";
      return;
    }
    if (reason.status === 401 || reason.status === 422) this.forget(uid, entry);
    if (reason.status === 401) throw reason;
    entry.state = "unsent";
    entry.failure = reason;
    if (reason.status !== 422 || uid !== this.uid) return;
    const field = fieldOf(reason.pointer);
    if (field) this.fault({ field, key: "command.fieldWrong", words: { field: t(`command.field.${field}`), error: failureOf(reason) } });
    else this.say(t("command.notSent", { error: failureOf(reason) }), "bad");
  }

  private fault({ field, nth, key, words }: Fault): void {
    this.say(t(key, words), "bad");
    const row = this.rows.children[nth ?? 0];
    const [name, value] = row ? row.querySelectorAll("input") : [];
    const at = field === "name" ? this.name : field === "timeout" ? this.wait : key === "command.argEmpty" ? value : name;
    at?.setAttribute("aria-invalid", "true");
    at?.focus();
  }

  private say(text: string, state: "" | "bad" = ""): void {
    setText(this.said, text);
    this.said.dataset["state"] = state;
    if (text === "") for (const field of this.form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  }

  private keep(uid: string, entry: Entry): void {
    const others = (this.sent.get(uid) ?? []).filter((known) => known !== entry);
    this.sent.set(uid, [entry, ...others].slice(0, KEPT));
    this.draw();
  }

  private forget(uid: string, entry: Entry): void {
    this.sent.set(uid, (this.sent.get(uid) ?? []).filter((known) => known !== entry));
  }

  private draw(): void {
    if (this.uid === "") return;
    const simulated = this.isSimulated(this.uid);
    setText(this.hint, t(simulated ? "command.hintSimulated" : "command.hint"));
    const entries = this.sent.get(this.uid) ?? [];
    const shown = new Map([...this.log.children].map((row) => [row.getAttribute("data-id"), row]));
    const rows = entries.map((entry) => shown.get(entry.id) ?? this.row(entry));
    // Rows stay where they are: a live region speaks on what changes, and a button keeps the focus.
    if (rows.length !== this.log.childElementCount || rows.some((row, nth) => row !== this.log.children[nth])) this.log.replaceChildren(...rows);
    entries.forEach((entry, nth) => drawEntry(rows[nth]!, entry));
  }

  private row(entry: Entry): HTMLLIElement {
    const again = h("button", { type: "button", class: "again" });
    again.addEventListener("click", () => this.send(entry));
    const args = Object.entries(entry.args).map(([name, value]) => ` ${name}=${value}`);
    return h("li", { "data-id": entry.id }, h("time", {}, clockOf(new Date().toISOString())), h("code", {}, entry.name, ...args), h("span", { class: "state", role: "status" }), again);
  }
}

function drawEntry(row: Element, entry: Entry): void {
  const element = row as HTMLElement;
  element.dataset["state"] = entry.state;
  setText(row.querySelector(".state")!, sentenceOf(entry));
  const again = row.querySelector<HTMLButtonElement>(".again")!;
  setText(again, t("command.again"));
  again.title = t("command.againAbout");
  again.hidden = entry.state !== "unanswered";
}

function sentenceOf(entry: Entry): string {
  const seconds = decimal(entry.waitSeconds, 0, language());
  switch (entry.state) {
    case "sent": {
      const passed = decimal((performance.now() - entry.sentAt) / 1000, 0, language());
      return t("command.sent", { passed, seconds });
    }
    case "done": {
      const facts = Object.entries(entry.data).map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
      return [t("command.done"), ...facts].join(" · ");
    }
    case "refused":
      return entry.detail ? t("command.refused", { detail: entry.detail }) : t("command.refusedSilently");
    case "unanswered":
      return entry.failure === null ? t("command.unanswered", { seconds }) : t("command.unknown", { error: failureOf(entry.failure) });
    case "unsent":
      return t("command.notSent", { error: failureOf(entry.failure) });
  }
}

/** An id of a command; `crypto.randomUUID` is for secure origins only. */
const newId = (): string => `p-${[...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
