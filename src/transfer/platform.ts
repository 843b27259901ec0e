/** Platforms as `os/architecture/variant`; only Linux images can be kept. */
import { EngineError } from "../base/errors.ts";

export type Platform = { readonly os: string; readonly architecture: string; readonly variant?: string };

/** Node's names where Go's differ. */
const goArchitectures: Readonly<Record<string, string>> = {
  x64: "amd64",
  ia32: "386",
  ppc64: "ppc64le",
  loong64: "loong64",
};

/** The architecture of this machine, in Go's words. */
export const hostArchitecture = goArchitectures[process.arch] ?? process.arch;

/** Undefined or empty: this machine's. Throws invalid_argument. */
export function parsePlatform(text: string | undefined): Platform {
  if (text === undefined || text === "") return { os: "linux", architecture: hostArchitecture };
  const [os = "", architecture = hostArchitecture, variant, ...rest] = text.toLowerCase().split("/");
  if (!/^[a-z0-9_]+$/.test(os) || !/^[a-z0-9_]+$/.test(architecture) || rest.length > 0)
    throw new EngineError("invalid_argument", `${JSON.stringify(text)} is an invalid platform: write os/architecture`);
  if (os !== "linux")
    throw new EngineError("invalid_argument", `operating system ${os} is not supported: only linux is`);
  return variant === undefined ? { os, architecture } : { os, architecture, variant };
}
