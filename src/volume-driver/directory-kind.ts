/** How a driver says what its volumes are, where they are directories of this machine (see directory-driver.ts). */
import { EngineError } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import type { VolumeContent } from "./content.ts";
import type { Requirement, VolumeSpec, VolumeTraits } from "./driver.ts";
import type { VolumeMount } from "./mounting.ts";
import type { ProgramKind } from "./program-kind.ts";

/** What one driver is, over directories. */
export type DirectoryKind = {
  readonly name: string;
  readonly traits: VolumeTraits;
  /** Below the engine's data root. */
  readonly folder: string;
  /** What is mounted on a volume's directory, or undefined for a plain one. Pure; throws invalid_argument. */
  readonly mountOf?: (options: VolumeSpec["options"]) => VolumeMount | undefined;
  /** Whether the options can be, where neither `mountOf` nor `program` says so. Pure; throws invalid_argument. */
  readonly check?: (options: VolumeSpec["options"]) => void;
  /** Instead: the program that mounts every volume. */
  readonly program?: ProgramKind;
  readonly requirements?: readonly Requirement[];
  /** The content of `opts.json`. */
  readonly optionsFile?: (options: VolumeSpec["options"]) => string | undefined;
  /** The options that `opts.json` holds, of a volume that nobody has a record of. */
  readonly readOptionsFile?: (text: string) => VolumeSpec["options"];
  /** Options that stay what they are: the data is where they say. */
  readonly fixedOptions?: readonly string[];
  /** What holds the data of volumes on which nothing is mounted by `mountOf`; a plain directory when undefined. */
  readonly content?: (given: { readonly root: string; readonly pool: Pool; readonly longPool: Pool }) => VolumeContent;
  /** With these options the data is not in the volume's folder, and nobody but its owner keeps snapshots of it. */
  readonly keptElsewhere?: (options: VolumeSpec["options"]) => boolean;
  /** What a mounted volume is told of new options, where it stays mounted. */
  readonly remountOf?: (options: VolumeSpec["options"]) => VolumeMount;
  /** Mounted until the volume is removed: unmounting would lose the data. */
  readonly staysMounted?: boolean;
  /** What is mounted is this machine's alone, and may be counted. */
  readonly measured?: boolean;
};

/** Names of the options that differ. Throws invalid_argument for one that cannot change. */
export function changesOf(
  { fixedOptions = [] }: DirectoryKind,
  ...[before, after]: readonly [VolumeSpec["options"], VolumeSpec["options"]]
): readonly string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const changed = names.filter((name) => before[name] !== after[name]);
  const fixed = changed.find((name) => fixedOptions.includes(name));
  if (fixed === undefined) return changed;
  throw new EngineError("invalid_argument", `the option ${fixed} of a volume cannot be changed`);
}
