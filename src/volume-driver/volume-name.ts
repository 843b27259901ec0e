/** Names of volumes that stand for a directory, with Docker's rule and words (moby daemon/names). */
import { EngineError } from "../base/errors.ts";

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** A directory name on every filesystem, with room for the prefix of the trash. */
const longestName = 200;

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
