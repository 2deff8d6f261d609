/** The chosen language: `t` for text made in code, `data-t…` attributes for text in the markup. */

import { decimal, type Language } from "../format";
import { en, type Dictionary, type Key } from "./en";
import { zh } from "./zh";

export type { Key } from "./en";

const DICTIONARIES: Record<Language, Dictionary> = { en, zh };
const listeners: (() => void)[] = [];
let current: Language = "en";

export const language = (): Language => current;

/** The text of a key with `{name}` filled in. */
export function t(key: Key, parameters: Readonly<Record<string, string | number>> = {}): string {
  return DICTIONARIES[current][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(parameters[name] ?? whole));
}

/** The text of `prefix.name` where the dictionary has it, else the name: metrics and reasons may be newer than we. */
export function named(prefix: "metric" | "class" | "reason", name: string): string {
  const key = `${prefix}.${name}`;
  return key in en ? DICTIONARIES[current][key as Key] : name;
}

/** How much was refused: messages of which nothing was kept, and single values, each with its word. */
export function countOf(messages: number, values: number): string {
  const parts = [
    ...(messages > 0 || values === 0 ? [t("refusals.messages", { count: decimal(messages, 0, current) })] : []),
    ...(values > 0 ? [t("refusals.values", { count: decimal(values, 0, current) })] : []),
  ];
  return parts.join(" · ");
}

/** Change the language, translate the markup and let every panel draw itself again. */
export function setLanguage(chosen: Language): void {
  current = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.title = t("app.title");
  translate(document);
  for (const listener of listeners) listener();
}

export function onLanguage(listener: () => void): void {
  listeners.push(listener);
}

function translate(root: ParentNode): void {
  for (const element of root.querySelectorAll<HTMLElement>("[data-t]")) element.textContent = t(keyOf(element, "t"));
  for (const element of root.querySelectorAll<HTMLElement>("[data-t-label]")) {
    element.setAttribute("aria-label", t(keyOf(element, "tLabel")));
  }
  for (const element of root.querySelectorAll<HTMLElement>("[data-t-title]")) {
    const text = t(keyOf(element, "tTitle"));
    element.title = text;
    element.setAttribute("aria-label", text);
  }
  for (const element of root.querySelectorAll<HTMLInputElement>("[data-t-placeholder]")) {
    element.placeholder = t(keyOf(element, "tPlaceholder"));
  }
}

function keyOf(element: HTMLElement, attribute: string): Key {
  const key = element.dataset[attribute] ?? "";
  if (!(key in en)) throw new Error(`index.html asks for the text ${key}, which en.ts does not have`);
  return key as Key;
}
