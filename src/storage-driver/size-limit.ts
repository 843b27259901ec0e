/**
 * The optional contract of a size limit. A driver whose `traits.containerOptions` name "size" promises: a container's
 * layer takes no more than that many bytes (what counts, the whole tree or the changes, its page in docs/ says); beyond
 * them a write fails with EDQUOT or ENOSPC and nothing else does; other layers notice nothing; the limit goes with the
 * layer. It holds from before the layer can be mounted until it is removed, whatever happens to the daemon.
 *
 * This module reads what people ask for, with Docker's rules and words. The conformance suite proves the rest.
 */
import { EngineError } from "../base/errors.ts";
import { humanSize, parseSize } from "../base/size.ts";

/** The key in `traits.containerOptions` and in `--storage-opt size=`. */
export const sizeOption = "size";

export type SizeRules = {
  /** The driver, for messages. */
  readonly driver: string;
  /** A container may not ask for less (bytes). */
  readonly minimum?: number | undefined;
  /** What a container gets that asks for nothing (bytes). */
  readonly standard?: number | undefined;
};

/** A container's options -> its limit in bytes, or undefined where it has none. Throws invalid_argument for any other option. */
export function containerSize(options: Readonly<Record<string, string>>, rules: SizeRules): number | undefined {
  let size = rules.standard;
  for (const [key, value] of Object.entries(options)) {
    if (key.toLowerCase() !== sizeOption) throw new EngineError("invalid_argument", `Unknown option ${key}`);
    size = checkedSize(value, rules);
  }
  return size;
}

/** A size that may serve as a limit, in bytes. */
export function checkedSize(text: string, { driver, minimum = 0 }: SizeRules): number {
  const size = parseSize(text);
  if (size === 0) throw new EngineError("invalid_argument", `${driver}: invalid storage size: ${humanSize(0)}`);
  if (size < minimum)
    throw new EngineError("invalid_argument", `${driver}: storage size cannot be less than ${humanSize(minimum)}`);
  return size;
}
