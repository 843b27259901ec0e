/**
 * The mode of a bind (`ro,z,rslave`): at most one word of each class, in any order (moby volume/mounts). Pure.
 */
import { EngineError } from "../base/errors.ts";

const classes: readonly (readonly string[])[] = [
  ["rw", "ro"],
  ["z", "Z"],
  ["private", "rprivate", "shared", "rshared", "slave", "rslave"],
  ["nocopy"],
  ["consistent", "cached", "delegated", "default"],
];

export const propagations: ReadonlySet<string> = new Set(classes[2]);

export type MountMode = {
  readonly readOnly: boolean;
  /** Undefined when the mode does not say. */
  readonly propagation: string | undefined;
  readonly noCopy: boolean;
};

/** Undefined when `text` is not a mode. The empty mode is one. */
export function findMode(text: string): MountMode | undefined {
  const words = text === "" ? [] : text.split(",");
  const known = words.every((word) => classes.some((group) => group.includes(word)));
  const single = classes.every((group) => words.filter((word) => group.includes(word)).length <= 1);
  if (!known || !single) return undefined;
  return {
    readOnly: words.includes("ro"),
    propagation: words.find((word) => propagations.has(word)),
    noCopy: words.includes("nocopy"),
  };
}

/** Throws invalid_argument `invalid mode: x`. */
export function parseMode(text: string): MountMode {
  const mode = findMode(text);
  if (mode === undefined) throw new EngineError("invalid_argument", `invalid mode: ${text}`);
  return mode;
}

/** `--volumes-from id[:mode]`; propagation and nocopy are the other container's and cannot be said here. */
export function parseVolumesFrom(spec: string): { readonly container: string; readonly readOnly: boolean } {
  if (spec === "") throw new EngineError("invalid_argument", "volumes-from specification cannot be an empty string");
  const colon = spec.indexOf(":");
  const text = colon < 0 ? "" : spec.slice(colon + 1);
  const mode = parseMode(text);
  if (mode.propagation !== undefined || mode.noCopy) throw new EngineError("invalid_argument", `invalid mode: ${text}`);
  return { container: colon < 0 ? spec : spec.slice(0, colon), readOnly: mode.readOnly };
}
