/** What a person chose (language, theme): `?lang=` and `?theme=` win, then what was stored, then the browser. */

import type { Language } from "./format";

export type Theme = "dark" | "light";

function stored(name: string): string | null {
  const asked = new URLSearchParams(location.search).get(name === "language" ? "lang" : name);
  if (asked !== null) return asked;
  try {
    return localStorage.getItem(`quayflow.${name}`);
  } catch {
    return null; // storage may be forbidden; the page works without
  }
}

function store(name: string, value: string): void {
  try {
    localStorage.setItem(`quayflow.${name}`, value);
  } catch {
    // as above
  }
}

export function initialLanguage(): Language {
  const found = (stored("language") ?? navigator.language).toLowerCase();
  return found.startsWith("zh") ? "zh" : "en";
}

export function rememberLanguage(language: Language): void {
  store("language", language);
  const url = new URL(location.href);
  // A link that names a language must not undo the switch on the next reload.
  if (url.searchParams.has("lang")) {
    url.searchParams.set("lang", language);
    history.replaceState(null, "", url);
  }
}

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

function chosenTheme(): Theme | null {
  const found = stored("theme");
  return found === "dark" || found === "light" ? found : null;
}

export const initialTheme = (): Theme => chosenTheme() ?? (darkScheme.matches ? "dark" : "light");

export const rememberTheme = (theme: Theme): void => store("theme", theme);

/** Follow the system's scheme for as long as nobody chose one here. */
export function onSystemTheme(listener: (theme: Theme) => void): void {
  darkScheme.addEventListener("change", () => {
    if (chosenTheme() === null) listener(darkScheme.matches ? "dark" : "light");
  });
}

const reduced = matchMedia("(prefers-reduced-motion: reduce)");
export const reducedMotion = (): boolean => reduced.matches;
