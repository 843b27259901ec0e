/** `--volume-deadline`, which the daemon and the volume plugin have: how long whoever serves a volume may take for one answer. */
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { decodeShape } from "../base/shape.ts";

/** Seconds, as a flag or a file gives them. */
export const deadlineShape = v.pipe(
  v.union([v.string(), v.number()]),
  v.transform(Number),
  v.number(),
  v.minValue(0.1),
  v.maxValue(3600),
);

/** The flag's milliseconds. Throws invalid_argument. */
export function parseVolumeDeadline(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const decoded = decodeShape(deadlineShape, given);
  if (decoded.ok) return milliseconds(decoded.value);
  throw new EngineError("invalid_argument", `--volume-deadline: ${decoded.problem}`);
}

export const milliseconds = (seconds: number | undefined): number | undefined =>
  seconds === undefined ? undefined : seconds * 1000;
