/** Numbers, ages and times as people read them; pure. */

export type Language = "en" | "zh";

const LOCALE: Record<Language, string> = { en: "en-GB", zh: "zh-CN" };
const numberFormats = new Map<string, Intl.NumberFormat>();

/** A number with at most `digits` decimals, or an en dash for none. */
export const decimal = (value: number | null | undefined, digits: number, language: Language): string => written(value, 0, digits, language);

/** A measurement with exactly `digits` decimals, for 5.0 says more than 5; an en dash for none. */
export const fixed = (value: number | null | undefined, digits: number, language: Language): string => written(value, digits, digits, language);

/** How many decimals a value of this resolution has. */
export function decimalsOf(resolution: number): number {
  return resolution > 0 ? Math.max(0, Math.min(9, Math.ceil(-Math.log10(resolution) - 1e-9))) : 0;
}

function written(value: number | null | undefined, least: number, most: number, language: Language): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const key = `${language}/${least}/${most}`;
  let format = numberFormats.get(key);
  if (!format) {
    format = new Intl.NumberFormat(LOCALE[language], { minimumFractionDigits: least, maximumFractionDigits: most });
    numberFormats.set(key, format);
  }
  return format.format(value);
}

/** A number with so many decimals that three figures show. */
export function threeFigures(value: number | null | undefined, language: Language): string {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return decimal(value, size >= 100 ? 0 : size >= 10 ? 1 : 2, language);
}

/** Units of time as they stand behind a number, shortest first: ms, s, min, h, d. */
const TIME_UNITS: Record<Language, readonly [string, string, string, string, string]> = {
  en: [" ms", " s", " min", " h", " d"],
  zh: [" 毫秒", " 秒", " 分钟", " 小时", " 天"],
};

/** A duration in the largest unit that leaves a number below 100, such as `12 ms`, `0.4 s`, `12 s`, `3 min`. */
export function age(seconds: number | null | undefined, language: Language): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const value = Math.max(0, seconds);
  const [ms, s, min, h, d] = TIME_UNITS[language];
  if (value < 0.0995) return `${Math.round(value * 1000)}${ms}`;
  if (value < 9.95) return `${decimal(value, 1, language)}${s}`;
  if (value < 100) return `${Math.round(value)}${s}`;
  if (value < 100 * 60) return `${Math.round(value / 60)}${min}`;
  if (value < 100 * 3600) return `${Math.round(value / 3600)}${h}`;
  return `${Math.round(value / 86_400)}${d}`;
}

const pad = (value: number): string => String(value).padStart(2, "0");

/** `12:04:31` in the browser's time zone. */
export function localClock(date: Date): string {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** `12:04:31` in UTC. */
export function utcClock(date: Date): string {
  return `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}:${pad(date.getUTCSeconds())}`;
}

/** The browser's offset from UTC as `+08` or `+05:30`. */
export function zoneOffset(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  const hours = Math.trunc(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60;
  return `${minutes < 0 ? "−" : "+"}${pad(hours)}${rest ? `:${pad(rest)}` : ""}`;
}

/** Clock time of an RFC 3339 text in the browser's zone, or a dash. */
export function clockOf(rfc3339: string | null | undefined): string {
  if (!rfc3339) return "–";
  const date = new Date(rfc3339);
  return Number.isNaN(date.getTime()) ? rfc3339 : localClock(date);
}

/** As `clockOf`, with the day before it where that is not the day of `now`. */
export function stampOf(rfc3339: string | null | undefined, now: Date): string {
  const date = new Date(rfc3339 ?? "");
  if (Number.isNaN(date.getTime()) || date.toDateString() === now.toDateString()) return clockOf(rfc3339);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${localClock(date)}`;
}

/** Milliseconds since 1970 of an RFC 3339 text (nanoseconds are cut), NaN if it is none. */
export function epochMs(rfc3339: string | null | undefined): number {
  return rfc3339 ? Date.parse(rfc3339.replace(/(\.\d{3})\d+/, "$1")) : Number.NaN;
}

/** A unit as shown beside a value: the vocabulary's "1" (dimensionless) shows as nothing. */
export const shownUnit = (unit: string): string => (unit === "1" ? "" : unit);

/** One CSV field, quoted where RFC 4180 asks for it and never read as a formula by a spreadsheet. */
export function csvField(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Rows as CSV text with CRLF line ends. */
export function csv(rows: readonly (readonly (string | number | null)[])[]): string {
  return rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}
