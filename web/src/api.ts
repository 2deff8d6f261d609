/** The API client: every answer is checked against its shape, every failure says which request and why. */

import * as answers from "./answers";
import type { Infer, Shape } from "./shape";

/** Requests are given up after this long (ms): a page that waits for ever looks like a port that stands still. */
const TIMEOUT_MS = 10_000;

/** More pages than this of one list are not fetched: 20 × 500 devices is far beyond one terminal. */
const MAX_PAGES = 20;

export class ApiError extends Error {
  /** The kind of problem, such as `no-answer`; "" where the answer does not say. */
  readonly slug: string;
  /** JSON Pointer to the field of the body that is at fault, "" for none. */
  readonly pointer: string;

  constructor(
    readonly path: string,
    readonly status: number,
    problem: Problem,
  ) {
    const [first] = problem.errors ?? [];
    super((first?.pointer ? first.detail : null) ?? problem.detail ?? problem.title);
    this.name = "ApiError";
    this.slug = (problem.type ?? "").split("/").at(-1) ?? "";
    this.pointer = first?.pointer ?? "";
  }
}

/** There is no answer: nobody was reached, or none came in time. */
export class UnansweredError extends Error {
  constructor(
    readonly path: string,
    readonly inTime: boolean,
    reason: Error,
  ) {
    super(reason.message);
    this.name = "UnansweredError";
  }
}

type Problem = Pick<Infer<typeof answers.problem>, "title" | "type" | "detail" | "errors">;

export type Query = Readonly<Record<string, string | number | undefined>>;

/** Build `/path?query` with the undefined parameters left out. */
export function pathOf(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  const encoded = parameters.toString();
  return encoded ? `${path}?${encoded}` : path;
}

/** A device in a path: its uid with "~" for "/", which no two devices share. */
export function devicePath(uid: string): string {
  return encodeURIComponent(uid.replaceAll("/", "~"));
}

/** The command that repeats a request in a terminal. */
export function curlCommand(origin: string, path: string): string {
  return `curl -s '${origin}${path}'`;
}

export async function get<T>(path: string, shape: Shape<T>): Promise<T> {
  const response = await answered(path, { headers: { Accept: "application/json" } }, TIMEOUT_MS);
  if (!response.ok) throw new ApiError(path, response.status, await explanation(response));
  return shape(await response.json(), "");
}

/** Change something over HTTP; `body` is JSON, null for none. */
export async function change<T>(
  method: "PUT" | "POST" | "DELETE",
  path: string,
  secret: string,
  body: string | null,
  shape: Shape<T>,
  timeoutMs = TIMEOUT_MS,
  parse: (text: string) => unknown = JSON.parse,
): Promise<T> {
  const headers = {
    Accept: "application/json",
    ...(body === null ? {} : { "Content-Type": "application/json" }),
    ...(secret ? { Authorization: `Bearer ${secret}` } : {}),
  };
  const response = await answered(path, { method, headers, body }, timeoutMs);
  if (!response.ok) throw new ApiError(path, response.status, await explanation(response));
  return shape(parse(await response.text()), "");
}

/**
 * JSON with each number as the text that it is written as, for people to read: to JavaScript 5.0 is 5, and above 2^53
 * it reads another number.
 */
export const withNumbersAsWritten = (json: string): unknown =>
  JSON.parse(json.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => (token.startsWith('"') ? token : `"${token}"`)));

/** Ask; the browser's own words for why there is no answer are in no language of the page. */
async function answered(path: string, request: RequestInit, timeoutMs: number): Promise<Response> {
  try {
    return await fetch(path, { ...request, signal: AbortSignal.timeout(timeoutMs) });
  } catch (reason) {
    const error = reason instanceof Error ? reason : new Error(String(reason));
    throw new UnansweredError(path, error.name !== "TimeoutError", error);
  }
}

async function explanation(response: Response): Promise<Problem> {
  try {
    return answers.problem(await response.json(), "");
  } catch {
    return { title: `${response.status} ${response.statusText}`.trim(), type: null, detail: null, errors: null };
  }
}

/** Every device, page after page. */
export async function devices(): Promise<answers.Device[]> {
  const found: answers.Device[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const answer = await get(pathOf("/v1/devices", { limit: 500, cursor }), answers.devicePage);
    found.push(...answer.items);
    if (answer.next === null) break;
    cursor = answer.next;
  }
  return found;
}

export function telemetryPath(uid: string, metric: string, start: string): string {
  return pathOf(`/v1/devices/${devicePath(uid)}/telemetry`, { metric, start });
}

export const telemetry = (path: string): Promise<answers.Telemetry> => get(path, answers.telemetry);

/** The requests behind the strip of figures; shown beside the definitions so that they can be repeated. */
export const throughputPath = (groupBy: "crane" | "gate", seconds: number): string =>
  pathOf("/v1/throughput", { group_by: groupBy, start: seconds % 60 === 0 ? `-${seconds / 60}m` : `-${seconds}s` });

export const LEDGER_PATH = "/v1/ledger?limit=1";

export const craneThroughput = (path: string): Promise<answers.CraneThroughput> => get(path, answers.craneThroughput);
export const gateThroughput = (path: string): Promise<answers.GateThroughput> => get(path, answers.gateThroughput);
export const ledger = (): Promise<answers.Ledger> => get(LEDGER_PATH, answers.ledger);

export const newestEvents = (limit: number): Promise<Infer<typeof answers.eventPage>> =>
  get(pathOf("/v1/events", { limit, order: "desc" }), answers.eventPage);

export const health = (uid: string): Promise<answers.Health> => get(`/v1/devices/${devicePath(uid)}/health`, answers.health);

const namesPath = (uid: string, name?: string): string => pathOf(`/v1/devices/${devicePath(uid)}/names`, { name });

export const names = (uid: string): Promise<Infer<typeof answers.deviceNames>> => get(namesPath(uid), answers.deviceNames);

export const adopt = (uid: string, name: string, meaning: answers.Meaning, secret: string): Promise<answers.Meaning> =>
  change("PUT", namesPath(uid, name), secret, JSON.stringify(meaning), answers.meaning);

export const giveUp = (uid: string, name: string, secret: string): Promise<answers.Meaning> =>
  change("DELETE", namesPath(uid, name), secret, null, answers.meaning);

interface CommandRequest {
  readonly id: string;
  readonly name: string;
  /** Each as JSON. */
  readonly args: Readonly<Record<string, string>>;
  readonly waitSeconds: number;
}

/** A command as JSON, its arguments to the letter: JSON.stringify would make a 5 of a 5.0. */
export function commandBody({ id, name, args, waitSeconds }: CommandRequest): string {
  const each = Object.entries(args).map(([argument, json]) => `${JSON.stringify(argument)}:${json}`);
  return `{"id":${JSON.stringify(id)},"name":${JSON.stringify(name)},"args":{${each.join(",")}},"timeout":"${waitSeconds}s"}`;
}

/** Have a device do something; the answer takes as long as the device, `waitSeconds` at most. */
export const sendCommand = (uid: string, command: CommandRequest, secret: string): Promise<answers.CommandSent> =>
  change(
    "POST",
    `/v1/devices/${devicePath(uid)}/commands`,
    secret,
    commandBody(command),
    answers.commandSent,
    command.waitSeconds * 1_000 + TIMEOUT_MS,
    withNumbersAsWritten,
  );

export const vocabulary = (): Promise<Infer<typeof answers.vocabulary>> => get("/v1/vocabulary", answers.vocabulary);

export const refusalsOf = (uid: string, limit: number): Promise<Infer<typeof answers.refusalPage>> =>
  get(pathOf("/v1/quarantine", { device: uid.replaceAll("/", "~"), limit }), answers.refusalPage);

/** The uids of the devices that are registered, heard or not; the first page is enough for a list that people read. */
export async function registered(): Promise<string[]> {
  const page = await get(pathOf("/v1/registry/device", { limit: 1000 }), answers.registryPage);
  return page.items.map((item) => item.key);
}

export const newestRefusals = (limit: number): Promise<Infer<typeof answers.refusalPage>> =>
  get(pathOf("/v1/quarantine", { limit }), answers.refusalPage);
