import { expect, test } from "vitest";

import { ApiError, commandBody, withNumbersAsWritten } from "../src/api";
import { argumentsOf, fieldOf, jsonOf } from "../src/commands";

test("a value is read as the command line reads it", () => {
  expect(["5", "-0.5", "1e3", "true", "false", "null", "fast", "0x10", "Infinity", "007", '"5"', '""', " 5 "].map(jsonOf)).toEqual([
    "5", "-0.5", "1e3", "true", "false", "null", '"fast"', '"0x10"', '"Infinity"', '"007"', '"5"', '""', "5",
  ]);
});

test("a number is sent as it was typed", () => {
  const args = { whole: jsonOf("5"), float: jsonOf("5.0"), long: jsonOf("9007199254740993"), "a \"b": jsonOf('say "no"') };
  expect(commandBody({ id: "c-1", name: "set", args, waitSeconds: 5 })).toBe(
    '{"id":"c-1","name":"set","args":{"whole":5,"float":5.0,"long":9007199254740993,"a \\"b":"say \\"no\\""},"timeout":"5s"}',
  );
  expect(commandBody({ id: "c-1", name: "stop", args: {}, waitSeconds: 5 })).toBe('{"id":"c-1","name":"stop","args":{},"timeout":"5s"}');
});

test("a number of an answer is shown as the device wrote it", () => {
  expect(withNumbersAsWritten('{"data":{"hz":5.0,"mode":"slow","long":9007199254740993,"on":true,"none":null,"t\\"5":"say \\"5\\" -1e5"}}')).toEqual({
    data: { hz: "5.0", mode: "slow", long: "9007199254740993", on: true, none: null, 't"5': 'say "5" -1e5' },
  });
});

test("rows become arguments, and a row left empty is none", () => {
  const json = (rows: [string, string][]): string => JSON.stringify(argumentsOf(rows));
  expect(json([["hz", "2"], ["", ""], [" mode ", "slow"]])).toBe('{"args":{"hz":"2","mode":"\\"slow\\""}}');
  expect(json([["__proto__", "1"], ["fault", "x"]])).toBe('{"args":{"__proto__":"1","fault":"\\"x\\""}}');
});

test("what is wrong with the arguments names the parameter", () => {
  expect(argumentsOf([["hz", "2"], ["", "5"]])).toMatchObject({ fault: { field: "args", nth: 1, key: "command.argUnnamed" } });
  expect(argumentsOf([["hz", "2"], ["hz", "5"]])).toMatchObject({ fault: { nth: 1, key: "command.argTwice", words: { name: "hz" } } });
  expect(argumentsOf([["hz", " "]])).toMatchObject({ fault: { nth: 0, key: "command.argEmpty", words: { name: "hz" } } });
});

test("a problem of the API names its kind and the field", () => {
  const problem = { title: "t", type: "/problems/invalid-parameter", detail: "/args/hz: no", errors: [{ pointer: "/args/hz", detail: "no" }] };
  const error = new ApiError("/v1", 422, problem);
  expect([error.slug, error.pointer, error.message]).toEqual(["invalid-parameter", "/args/hz", "no"]);
  expect([fieldOf(error.pointer), fieldOf("/timeout"), fieldOf("/other"), fieldOf("")]).toEqual(["args", "timeout", null, null]);
  expect(new ApiError("/v1", 500, { title: "t", type: null, detail: null, errors: null }).message).toBe("t");
});
