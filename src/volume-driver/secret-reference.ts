/**
 * Secrets of volumes are given by reference: the value `@/path/to/file` names a file of this machine, `@name` the file
 * `<data root>/secrets/name`. What an option refers to is read when it is needed and then forgotten: records, command
 * lines and messages hold the reference alone.
 *
 *     <data root>/secrets/        0700
 *       <name>                    a secret: text, at most 64 KiB, for root alone; one line end after it is not part of it
 */
import { join } from "node:path";
import { EngineError, errorCode, systemCode } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import type { ReadFileArgument } from "./secret-task.ts";

export type SecretReference =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "name"; readonly name: string };

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$/;
const longestPath = 4000;
const tasks = new URL("./secret-task.ts", import.meta.url);

/** Where secrets with a name are. */
export const secretsFolder = (root: string): string => join(root, "secrets");

/** Throws invalid_argument that names the option; a value that is no reference may be a secret, and is not repeated. */
export function parseReference(option: string, value: string): SecretReference {
  const rest = value.slice(1);
  if (!value.startsWith("@") || rest === "")
    throw new EngineError(
      "invalid_argument",
      `the option ${option} takes a reference: ${option}=@/path/to/file, or ${option}=@NAME for the file NAME in the engine's folder secrets/`,
    );
  if (rest.startsWith("/")) return { kind: "path", path: parsePath(option, rest) };
  if (namePattern.test(rest)) return { kind: "name", name: rest };
  throw new EngineError(
    "invalid_argument",
    `the option ${option} has no valid reference: after the @ stands an absolute path, or a name of letters, digits and _.-`,
  );
}

function parsePath(option: string, path: string): string {
  if (!/[\x00-\x1f\x7f]/.test(path) && path.length <= longestPath && !path.endsWith("/")) return path;
  throw new EngineError("invalid_argument", `the path that the option ${option} refers to cannot be that of a file`);
}

/** The path of what is referred to. */
export function pathOfReference(reference: SecretReference, root: string): string {
  return reference.kind === "path" ? reference.path : join(secretsFolder(root), reference.name);
}

export type SecretReader = {
  /** The secret that a value of an option refers to; `public` ones (a server's key) may be readable by everybody. */
  read(option: string, value: string, access?: "secret" | "public"): Promise<string>;
};

/** Reads secrets of one data root. Throws invalid_argument or not_found; no message holds what was read. */
export function openSecretReader({ root, pool }: { readonly root: string; readonly pool: Pool }): SecretReader {
  return {
    read: async (option, value, access = "secret") => {
      const reference = parseReference(option, value);
      const path = pathOfReference(reference, root);
      try {
        return await pool.run<ReadFileArgument, string>(tasks, "readSecretTask", { path, shared: access === "public" });
      } catch (error) {
        throw failure({ option, path }, error);
      }
    },
  };
}

function failure({ option, path }: { readonly option: string; readonly path: string }, error: unknown): EngineError {
  const what = `the file ${path}, which the option ${option} refers to,`;
  if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR")
    return new EngineError("not_found", `${what} is not there`);
  if (systemCode(error) === "ELOOP")
    return new EngineError("invalid_argument", `${what} is a symbolic link; name the file itself`);
  if (error instanceof EngineError) return new EngineError(error.code, `${what} ${error.message}`);
  return new EngineError(errorCode(error), `${what} cannot be read: ${systemCode(error) ?? "unknown reason"}`);
}
