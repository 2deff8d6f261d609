import { expect, test } from "vitest";

import { detailOf } from "../src/details";
import { wordsOf } from "../src/figures";
import { EXPLAINED, SENTENCES } from "../src/i18n/details.zh";

const said = (reason: string, detail: string): string => detailOf({ reason, detail }, "zh");

test("a refusal is said in Chinese with its values", () => {
  expect(said("out_of_range", "9999 m: expected -50 to 100")).toBe("9999 m：应在 -50 到 100 之间");
  expect(said("clock_future", "31507649 s ahead of receipt; at most 300 s")).toBe("比接收时间超前 31507649 秒；最多允许 300 秒");
  expect(said("wrong_type", "expected a number or a boolean, got text 'heavy'")).toBe("应为数值或布尔值，收到的是文本 'heavy'");
  const command = "quayflow device adopt CNNGB-DEMO/quay-crane/QC01 'hoist mm' METRIC";
  expect(said("unknown_metric", `"hoist mm" (it was 14501.0) is not a metric of a quay-crane; see /v1/vocabulary, or say what it is: ${command}`)).toBe(
    `"hoist mm"（值为 14501.0）不是岸桥的测点；测点表见 /v1/vocabulary，或指明其含义：${command}`,
  );
});

test("a sentence that is not known is explained by its reason, and kept", () => {
  expect(said("wrong_type", "the moon is 7 too far")).toBe("字段的类型或内容不正确（the moon is 7 too far）");
  expect(said("of_another_time", "what is 7")).toBe("what is 7");
  expect(said("too_large", "")).toBe(EXPLAINED["too_large"]);
});

test("in English a refusal is what the API says", () => {
  expect(detailOf({ reason: "out_of_range", detail: "9999 m: expected -50 to 100" }, "en")).toBe("9999 m: expected -50 to 100");
});

test("every sentence keeps every value", () => {
  const lost = SENTENCES.filter(([pattern, sentence]) => {
    const groups = new RegExp(`${pattern.source}|`).exec("")!.length - 1;
    return Array.from({ length: groups }, (_, nth) => `$${nth + 1}`).some((group) => !sentence.includes(group));
  });
  expect(lost.map(([pattern]) => String(pattern))).toEqual([]);
});

test("values cannot put words in the page's mouth", () => {
  expect(said("not_finite", "$1 is not a finite number")).toBe("$1 不是 64 位有限数");
});

test("a definition is in the language of the page, unless it is of a version that the page does not know", () => {
  const definition = { id: "moves_per_hour", version: "1", name: "Moves", description: "Moves.", numerator: "n", denominator: null };
  expect(wordsOf(definition, "zh").name).toBe("每小时吊次");
  expect(wordsOf(definition, "en")).toEqual(definition);
  expect(wordsOf({ ...definition, version: "2" }, "zh").name).toBe("Moves");
});
