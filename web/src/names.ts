/** The names of a device's own that are no metric: what came under each, what it may mean, and adopting it by one click. */

import type { DeviceName, Meaning, VocabularyMetric } from "./answers";
import * as api from "./api";
import { byId, h, setText } from "./dom";
import { failureOf } from "./failures";
import { decimal, decimalsOf, fixed, shownUnit, stampOf } from "./format";
import { language, named, t } from "./i18n";
import type { Secret } from "./secret";
import { someOpen } from "./unknownnames";

/** The value in the metric's unit that a value sent becomes, NaN where it is no number. */
export function converted(sent: string, { scale, offset }: Pick<Meaning, "scale" | "offset">): number {
  const plain = sent.startsWith('"') ? sent.replaceAll('"', "") : sent;
  const number = plain === "true" ? 1 : plain === "false" ? 0 : plain.trim() === "" ? Number.NaN : Number(plain);
  return number * scale + offset;
}

/** The command of the API's answer with what was chosen in the place of METRIC. */
export function commandOf(command: string, { metric, scale, offset }: Meaning): string {
  const flags = [...(scale === 1 ? [] : [`--scale ${scale}`]), ...(offset === 0 ? [] : [`--offset ${offset}`])];
  return command.replace("device adopt ", ["device adopt", ...flags, ""].join(" ")).replace(/METRIC$/, metric);
}

export class Names {
  private readonly list = byId("device-names", HTMLUListElement);
  private readonly note = byId("device-names-note", HTMLParagraphElement);
  private readonly said = byId("device-names-said", HTMLParagraphElement);
  private readonly command = byId("device-names-command", HTMLPreElement);
  private readonly rows = new Map<string, NameRow>();
  private metrics: readonly VocabularyMetric[] = [];
  private uid = "";

  /** `onKnown` is told whether a device has names that are refused and without a meaning. */
  constructor(
    private readonly secret: Secret,
    private readonly onKnown: (uid: string, someUnknown: boolean) => void,
  ) {}

  /** Show another device's, of which nothing is known yet. */
  open(uid: string): void {
    this.uid = uid;
    this.redraw();
    this.say("");
    setText(this.note, t("empty.loading"));
  }

  /** Build every row anew, in the language chosen now. */
  redraw(): void {
    this.rows.clear();
    this.list.replaceChildren();
  }

  async load(): Promise<void> {
    const { uid } = this;
    if (this.metrics.length === 0) this.metrics = (await api.vocabulary()).items;
    const { items } = await api.names(uid);
    if (uid === this.uid) this.take(items);
  }

  private take(items: readonly DeviceName[]): void {
    this.onKnown(this.uid, someOpen(items));
    const gone = new Set(this.rows.keys());
    for (const item of items) {
      gone.delete(item.name);
      const kind = item.adopted ? "adopted" : "refused";
      let row = this.rows.get(item.name);
      if (row?.kind !== kind) {
        const made = kind === "adopted" ? this.adoptedRow(item) : this.refusedRow(item);
        if (row) row.element.replaceWith(made.element);
        else this.list.append(made.element);
        this.rows.set(item.name, made);
        row = made;
      }
      row.update(item);
    }
    for (const name of gone) {
      this.rows.get(name)?.element.remove();
      this.rows.delete(name);
    }
    const open = items.some((item) => !item.adopted);
    setText(this.note, items.length === 0 ? t("device.namesNone") : open ? t("device.namesNote") : t("device.namesAllAdopted"));
  }

  private refusedRow(item: DeviceName): NameRow {
    const row = new RefusedRow(item, this.choices(item), (meaning, latest) => this.adopt(latest, meaning));
    return row;
  }

  private adoptedRow(item: DeviceName): NameRow {
    return new AdoptedRow(item, this.metrics, () => this.giveUp(item.name));
  }

  /** Every metric that devices of the class may send, those guessed first. */
  private choices(item: DeviceName): { likely: VocabularyMetric[]; others: VocabularyMetric[] } {
    const deviceClass = this.uid.split("/")[1] ?? "";
    const allowed = this.metrics.filter((metric) => !metric.derived && metric.classes.includes(deviceClass));
    const guessed = item.guesses.map((guess) => guess.metric);
    const label = (metric: VocabularyMetric): string => named("metric", metric.name);
    return {
      likely: guessed.flatMap((name) => allowed.filter((metric) => metric.name === name)),
      others: allowed
        .filter((metric) => !guessed.includes(metric.name))
        .sort((a, b) => label(a).localeCompare(label(b), language())),
    };
  }

  private adopt(item: DeviceName, meaning: Meaning): void {
    const { uid } = this;
    this.attempt(async (secret) => {
      await api.adopt(uid, item.name, meaning, secret);
      return t("device.adopted", { name: item.name, metric: named("metric", meaning.metric) });
    }, commandOf(item.command, meaning));
  }

  private giveUp(name: string): void {
    const { uid } = this;
    this.attempt(async (secret) => {
      await api.giveUp(uid, name, secret);
      return t("device.givenUp", { name });
    });
  }

  /** Change something and say what came of it; `command` does the same on the server. */
  private attempt(change: (secret: string) => Promise<string>, command = ""): void {
    const work = async (secret: string): Promise<void> => {
      this.say(await change(secret));
      await this.load();
    };
    this.secret.attempt({ work, place: this.list, say: (text) => this.say(text) }).catch((reason: unknown) => {
      const error = failureOf(reason);
      this.say(t(command ? "device.notAdopted" : "device.notDone", { error }), command);
    });
  }

  private say(text: string, command = ""): void {
    setText(this.said, text);
    setText(this.command, command);
    this.command.hidden = command === "";
  }
}

interface NameRow {
  readonly kind: "refused" | "adopted";
  readonly element: HTMLLIElement;
  update(item: DeviceName): void;
}

const metricLabel = (metric: VocabularyMetric): string => {
  const unit = shownUnit(metric.unit);
  return unit ? `${named("metric", metric.name)} (${unit})` : named("metric", metric.name);
};

/** A name that is refused: what it may mean can be chosen, and one click adopts it. */
class RefusedRow implements NameRow {
  readonly kind = "refused";
  readonly element: HTMLLIElement;
  private readonly facts = h("span", { class: "facts" });
  private readonly metric: HTMLSelectElement;
  private readonly scale: HTMLInputElement;
  private readonly offset: HTMLInputElement;
  private readonly preview = h("output", { class: "preview" });
  private readonly button: HTMLButtonElement;

  constructor(
    private item: DeviceName,
    private readonly choices: { likely: VocabularyMetric[]; others: VocabularyMetric[] },
    onAdopt: (meaning: Meaning, item: DeviceName) => void,
  ) {
    const options = (metrics: readonly VocabularyMetric[]) => metrics.map((metric) => h("option", { value: metric.name, title: metric.name }, metricLabel(metric)));
    this.metric = h("select", { "aria-label": t("device.meaning", { name: item.name }) });
    if (choices.likely.length === 0) this.metric.append(h("option", { value: "" }, t("device.choose")));
    else this.metric.append(h("optgroup", { label: t("device.likely") }, ...options(choices.likely)));
    this.metric.append(h("optgroup", { label: t("device.others") }, ...options(choices.others)));
    const scale = item.guesses[0]?.scale ?? 1;
    this.scale = h("input", { inputmode: "decimal", size: 6, value: Number(scale.toPrecision(6)), "aria-label": t("device.scale") });
    this.offset = h("input", { inputmode: "decimal", size: 4, value: 0, "aria-label": t("device.offset") });
    this.button = h("button", { type: "button", class: "adopt" }, t("device.adopt"));
    this.button.addEventListener("click", () => onAdopt(this.meaning(), this.item));
    this.metric.addEventListener("change", () => this.onMetric());
    for (const field of [this.scale, this.offset]) field.addEventListener("input", () => this.draw());
    this.element = h(
      "li",
      { "data-name": item.name },
      h("p", { class: "head" }, h("code", {}, item.name), this.facts),
      h("p", { class: "choice" }, "×", this.scale, "+", this.offset, "→", this.metric, this.preview, this.button),
    );
  }

  update(item: DeviceName): void {
    this.item = item;
    const last = item.last === null ? "" : stampOf(item.last, new Date());
    const count = decimal(item.refused, 0, language());
    setText(this.facts, t(item.value ? "device.nameFacts" : "device.nameFactsBare", { value: item.value.replace(/^(-?\d+)\.0$/, "$1"), count, last }));
    this.draw();
  }

  private meaning(): Meaning {
    return { metric: this.metric.value, scale: Number(this.scale.value), offset: Number(this.offset.value) };
  }

  private onMetric(): void {
    const guess = this.item.guesses.find(({ metric }) => metric === this.metric.value);
    this.scale.value = String(Number((guess?.scale ?? 1).toPrecision(6)));
    this.draw();
  }

  private draw(): void {
    const meaning = this.meaning();
    const right = Number.isFinite(meaning.scale) && meaning.scale !== 0 && Number.isFinite(meaning.offset);
    this.button.disabled = !right || meaning.metric === "";
    const found = [...this.choices.likely, ...this.choices.others].find(({ name }) => name === meaning.metric);
    const value = converted(this.item.value, meaning);
    const unit = found ? shownUnit(found.unit) : "";
    setText(this.preview, found && right && Number.isFinite(value) ? `= ${fixed(value, decimalsOf(found.resolution), language())} ${unit}`.trim() : "");
  }
}

/** A name that is adopted: what it means, and giving it up again. */
class AdoptedRow implements NameRow {
  readonly kind = "adopted";
  readonly element: HTMLLIElement;
  private readonly meaning = h("span", { class: "facts" });

  constructor(
    item: DeviceName,
    private readonly metrics: readonly VocabularyMetric[],
    onGiveUp: () => void,
  ) {
    const button = h("button", { type: "button", class: "give-up" }, t("device.giveUp"));
    button.addEventListener("click", onGiveUp);
    this.element = h(
      "li",
      { "data-name": item.name, class: "adopted" },
      h("p", { class: "head" }, h("b", { class: "tick", "aria-hidden": "true" }, "✔"), h("code", {}, item.name), this.meaning, button),
    );
  }

  update({ adopted }: DeviceName): void {
    if (!adopted) return;
    const metric = this.metrics.find(({ name }) => name === adopted.metric);
    const scale = adopted.scale === 1 ? "" : ` × ${Number(adopted.scale.toPrecision(6))}`;
    const offset = adopted.offset === 0 ? "" : ` + ${adopted.offset}`;
    setText(this.meaning, `${scale}${offset} → ${metric ? metricLabel(metric) : adopted.metric}`.trim());
  }
}
