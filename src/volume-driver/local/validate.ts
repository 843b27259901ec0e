/**
 * Names and options of the local driver, with Docker's rules and words (moby daemon/volume/local). Pure: what is
 * accepted here can be made; what this driver does not do yet is refused with a sentence, never ignored.
 */
import { EngineError } from "../../base/errors.ts";
import type { VolumeSpec } from "../driver.ts";

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** A directory name on every filesystem, with room for the prefix of the trash. */
const longestName = 200;

/** Option -> options that it needs, in the order in which they are asked for. */
const needs: ReadonlyMap<string, readonly string[]> = new Map([
  ["device", ["type"]],
  ["type", ["device"]],
  ["o", ["device", "type"]],
  ["size", []],
]);

/** Throws invalid_argument with Docker's texts. A valid name is one path component and never starts with a dot. */
export function validateName(name: string): void {
  if ([...name].length === 1)
    throw new EngineError(
      "invalid_argument",
      "volume name is too short, names should be at least two alphanumeric characters",
    );
  if (!namePattern.test(name))
    throw new EngineError(
      "invalid_argument",
      `${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  if (name.length > longestName)
    throw new EngineError("invalid_argument", `volume name is too long, at most ${longestName} characters are allowed`);
}

/** Throws invalid_argument for what Docker refuses, unsupported for what this driver does not do yet. */
export function validateOptions(options: VolumeSpec["options"]): void {
  const names = Object.keys(options).sort();
  for (const name of names)
    if (!needs.has(name)) throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(name)}`);
  for (const name of names)
    for (const needed of needs.get(name) ?? [])
      if (options[needed] === undefined)
        throw new EngineError("invalid_argument", `missing required option: ${JSON.stringify(needed)}`);
  if (names.length > 0)
    throw new EngineError(
      "unsupported",
      `the local driver does not take options yet: ${names.join(", ")}; create the volume without options, or bind-mount a host directory`,
    );
}
