/**
 * What engines ask of a volume plugin (Docker's volume plugin protocol v1), decoded. Nobody sends more than a name, an
 * id and a few options, so all of them are bounded.
 */
import * as v from "valibot";
import { EngineError } from "../../base/errors.ts";
import { decodeShape, type Shape, textMap } from "../../base/shape.ts";

/** Bytes of a body. */
export const bodyLimit = 256 * 1024;

const name = v.pipe(v.string(), v.nonEmpty(), v.maxLength(255));
const id = v.pipe(v.string(), v.nonEmpty(), v.maxLength(512));

/** Members that are not known are left alone: later engines may send more. */
export const createShape = v.object({ Name: name, Opts: v.nullish(textMap, {}) });
export const nameShape = v.object({ Name: name });
export const useShape = v.object({ Name: name, ID: id });
export const anyShape = v.nullish(v.object({}));

/** Decodes a body. Throws invalid_argument that names the member, never its value. */
export function decodeBody<T>(shape: Shape<T>, text: string): T {
  const decoded = decodeShape(shape, parse(text));
  if (decoded.ok) return decoded.value;
  throw new EngineError("invalid_argument", `${decoded.path === "" ? "the body" : decoded.path}: ${decoded.problem}`);
}

function parse(text: string): unknown {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError("invalid_argument", "the body is not JSON", { cause });
  }
}
