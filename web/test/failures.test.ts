import { expect, test } from "vitest";

import { ApiError, UnansweredError } from "../src/api";
import { failureOf } from "../src/failures";
import { t } from "../src/i18n";
import { PROBLEM_SENTENCES } from "../src/i18n/problems.zh";

const problem = (slug: string, detail: string): ApiError =>
  new ApiError("/v1/devices", 422, { type: `/problems/${slug}`, title: "A title", detail, errors: null });

test("a problem is said in Chinese with its values", () => {
  expect(failureOf(problem("unknown-device", "no device 'QC99' has been heard"), "zh")).toBe("从未收到设备 'QC99' 的消息");
  expect(failureOf(problem("broker-unreachable", "broker 127.0.0.1:1883: [Errno 111] Connection refused"), "zh")).toBe(
    "MQTT 服务器 127.0.0.1:1883：[Errno 111] Connection refused",
  );
  expect(failureOf(problem("unknown-metric", "'h' is not a metric of a quay-crane; see /v1/vocabulary"), "zh")).toBe(
    "'h' 不是岸桥的测点；测点表见 /v1/vocabulary",
  );
});

test("a sentence that is not known is explained by the kind of problem, and kept", () => {
  expect(failureOf(problem("busy", "the moon is full"), "zh")).toBe("查询过多，请稍后重试（the moon is full）");
  expect(failureOf(problem("of-another-time", "the moon is full"), "zh")).toBe("the moon is full");
});

test("in English a problem is what the API says", () => {
  expect(failureOf(problem("busy", "the moon is full"), "en")).toBe("the moon is full");
});

test("no answer is said in the page's words, not the browser's", () => {
  expect(failureOf(new UnansweredError("/v1/devices", true, new TypeError("Failed to fetch")))).toBe(t("failure.unreachable"));
  expect(failureOf(new UnansweredError("/v1/devices", false, new Error("signal timed out")))).toBe(t("failure.timeout"));
});

test("every sentence keeps every value", () => {
  const lost = PROBLEM_SENTENCES.filter(([pattern, sentence]) => {
    const groups = new RegExp(`${pattern.source}|`).exec("")!.length - 1;
    return Array.from({ length: groups }, (_, nth) => `$${nth + 1}`).some((group) => !sentence.includes(group));
  });
  expect(lost.map(([pattern]) => String(pattern))).toEqual([]);
});
