import { expect, test } from "vitest";

import markup from "../index.html?raw";
import { age, csvField, decimal, decimalsOf, epochMs, fixed, shownUnit } from "../src/format";
import { countOf } from "../src/i18n";
import { en, type Key } from "../src/i18n/en";
import { zh } from "../src/i18n/zh";
import * as shape from "../src/shape";

const sources = Object.values(
  import.meta.glob<string>(["../src/**/*.ts", "!../src/i18n/{en,zh}.ts"], { query: "?raw", import: "default", eager: true }),
).join("\n");

const placeholders = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();

test("both languages have the same keys and placeholders, and no text is empty", () => {
  expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
  for (const key of Object.keys(en) as Key[]) {
    expect(placeholders(zh[key]), key).toEqual(placeholders(en[key]));
    expect(zh[key].trim(), key).not.toBe("");
  }
});

test("every text is used, and every text that the markup asks for exists", () => {
  const asked = [...markup.matchAll(/data-t(?:-[a-z]+)?="([^"]+)"/g)].map((match) => match[1]!);
  expect(asked.filter((key) => !(key in en))).toEqual([]);
  const made = ["metric.", "class.", "reason.", "state.", "link.", "figure.", "cause.", "command.field."];
  const known = (key: string): boolean =>
    made.some((prefix) => key.startsWith(prefix)) || asked.includes(key) || sources.includes(`"${key}"`);
  expect(Object.keys(en).filter((key) => !known(key))).toEqual([]);
});

test("ages and numbers read well", () => {
  expect([0.012, 0.42, 12.3, 260, 7_300, 500_000].map((value) => age(value, "en"))).toEqual([
    "12 ms",
    "0.4 s",
    "12 s",
    "4 min",
    "2 h",
    "6 d",
  ]);
  expect(age(12.3, "zh")).toBe("12 秒");
  expect(age(Number.NaN, "en")).toBe("–");
  expect(decimal(12_345.678, 1, "en")).toBe("12,345.7");
  expect(decimal(null, 1, "zh")).toBe("–");
  expect([shownUnit("1"), shownUnit("m/s")]).toEqual(["", "m/s"]);
});

test("nanoseconds in a time do not matter to the browser", () => {
  expect(epochMs("2026-11-23T08:00:00.123456789Z")).toBe(Date.UTC(2026, 10, 23, 8, 0, 0, 123));
  expect(epochMs(null)).toBeNaN();
});

test("a spreadsheet never runs a field", () => {
  expect(csvField("=1+1")).toBe("'=1+1");
  expect(csvField('a "b", c')).toBe('"a ""b"", c"');
  expect(csvField(-1.5)).toBe("-1.5");
});

test("a shape names the path at fault and ignores what is new", () => {
  const pair = shape.fields({ id: shape.text, points: shape.list(shape.fields({ mean: shape.orNull(shape.number) })) });
  expect(pair({ id: "a", points: [{ mean: null, p95: 1 }], extra: 1 }, "")).toEqual({ id: "a", points: [{ mean: null }] });
  expect(() => pair({ id: "a", points: [{ mean: 1 }, { mean: "x" }] }, "")).toThrow('/points/1/mean: expected a number, got "x"');
  expect(() => pair([], "")).toThrow("(answer): expected an object");
  expect(() => shape.oneOf("live", "stale")("gone", "/state")).toThrow("/state: expected one of live, stale");
});

test("what was refused is counted in messages and in values, each with its word", () => {
  expect([countOf(0, 0), countOf(2, 0), countOf(0, 7), countOf(1, 1_200)]).toEqual([
    "whole messages 0",
    "whole messages 2",
    "values 7",
    "whole messages 1 · values 1,200",
  ]);
});

test("a measurement has the decimals of its resolution", () => {
  expect([1, 0.1, 0.01, 0.001, 1e-5, 1e-7, 0.5, 10].map(decimalsOf)).toEqual([0, 1, 2, 3, 5, 7, 1, 0]);
  expect([5, 5.04, -0.26].map((value) => fixed(value, 1, "en"))).toEqual(["5.0", "5.0", "-0.3"]);
  expect(fixed(null, 1, "zh")).toBe("–");
});
