/**
 * Names and options of the local driver, with Docker's rules and words (moby daemon/volume/local). Pure. As in Docker
 * what the options name is looked at when a container first uses the volume, not here.
 */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
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

/** What is mounted on a volume's directory for as long as it is used. */
export type LocalMount = { readonly type: string; readonly device: string; readonly o: string };

/** The options, or undefined for a plain directory. Throws invalid_argument with Docker's texts; touches nothing. */
export function parseOptions(options: VolumeSpec["options"]): LocalMount | undefined {
  const names = Object.keys(options).sort();
  for (const name of names)
    if (!needs.has(name)) throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(name)}`);
  if (options.size !== undefined) refuseSize(options.size);
  for (const name of names)
    for (const needed of needs.get(name) ?? [])
      if (!options[needed])
        throw new EngineError("invalid_argument", `missing required option: ${JSON.stringify(needed)}`);
  const { type, device, o = "" } = options;
  if (type === undefined || device === undefined) return undefined;
  if (type === "cifs") refusePort(device);
  for (const [name, text] of Object.entries({ type, device, o }))
    if (text.includes("\0")) throw new EngineError("invalid_argument", `the option ${name} holds a NUL`);
  return { type, device, o };
}

function refuseSize(text: string): void {
  if (parseSize(text) > 0) throw new EngineError("invalid_argument", "quota size requested but no quota support");
}

/** `//host:port/share`: the kernel takes the port as an option only. */
function refusePort(device: string): void {
  if (/^\/\/[^/]*:\d+(\/|$)/.test(device))
    throw new EngineError("invalid_argument", "port not allowed in CIFS device URL, include 'port' in 'o='");
}
