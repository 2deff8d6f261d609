/**
 * Checks of what arrives over the wire: a shape is a function that returns the value typed, or throws naming the path.
 *
 * The types of the API's answers (answers.ts) are inferred from shapes, so a type cannot say one thing and the check
 * another, and a changed API shows up as one sentence instead of an `undefined` somewhere in a panel.
 */

export class ShapeError extends Error {
  constructor(path: string, expected: string, got: unknown) {
    super(`${path || "(answer)"}: expected ${expected}, got ${shown(got)}`);
    this.name = "ShapeError";
  }
}

export type Shape<T> = (value: unknown, path: string) => T;
export type Infer<S> = S extends Shape<infer T> ? T : never;

export const text: Shape<string> = (value, path) => {
  if (typeof value !== "string") throw new ShapeError(path, "text", value);
  return value;
};

export const number: Shape<number> = (value, path) => {
  if (typeof value !== "number") throw new ShapeError(path, "a number", value);
  return value;
};

export const flag: Shape<boolean> = (value, path) => {
  if (typeof value !== "boolean") throw new ShapeError(path, "true or false", value);
  return value;
};

/** A flat value of a device's own making: status info and event data. */
export type Scalar = string | number | boolean | null;
export const scalar: Shape<Scalar> = (value, path) => {
  if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return value;
  }
  throw new ShapeError(path, "text, a number, a boolean or null", value);
};

export function orNull<T>(shape: Shape<T>): Shape<T | null> {
  return (value, path) => (value === null || value === undefined ? null : shape(value, path));
}

export function oneOf<const T extends string>(...allowed: readonly T[]): Shape<T> {
  return (value, path) => {
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) throw new ShapeError(path, `one of ${allowed.join(", ")}`, value);
    return found;
  };
}

export function list<T>(shape: Shape<T>): Shape<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw new ShapeError(path, "a list", value);
    return value.map((item, index) => shape(item, `${path}/${index}`));
  };
}

export function record<T>(shape: Shape<T>): Shape<Record<string, T>> {
  return (value, path) => {
    const found: Record<string, T> = {};
    for (const [key, item] of Object.entries(object(value, path))) found[key] = shape(item, `${path}/${key}`);
    return found;
  };
}

/** An object with at least these fields; others are ignored, so that an API may add. */
export function fields<T extends Record<string, Shape<unknown>>>(shapes: T): Shape<{ [K in keyof T]: Infer<T[K]> }> {
  const entries = Object.entries(shapes);
  return (value, path) => {
    const source = object(value, path);
    const found: Record<string, unknown> = {};
    for (const [key, shape] of entries) found[key] = shape(source[key], `${path}/${key}`);
    return found as { [K in keyof T]: Infer<T[K]> };
  };
}

function object(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new ShapeError(path, "an object", value);
  return value as Record<string, unknown>;
}

function shown(value: unknown): string {
  const json = JSON.stringify(value) ?? "nothing";
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
