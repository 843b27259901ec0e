/**
 * Names and options of the local driver, with Docker's rules and words (moby daemon/volume/local). Pure. As in Docker
 * what the options name is looked at when a container first uses the volume, not here.
 */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import type { VolumeSpec } from "../driver.ts";
import type { VolumeMount } from "../mounting.ts";

/** Option -> options that it needs, in the order in which they are asked for. */
const needs: ReadonlyMap<string, readonly string[]> = new Map([
  ["device", ["type"]],
  ["type", ["device"]],
  ["o", ["device", "type"]],
  ["size", []],
]);

/** The options, or undefined for a plain directory. Throws invalid_argument with Docker's texts; touches nothing. */
export function parseOptions(options: VolumeSpec["options"]): VolumeMount | undefined {
  const names = Object.keys(options).sort();
  for (const name of names)
    if (!needs.has(name)) throw new EngineError("invalid_argument", `invalid option: ${JSON.stringify(name)}`);
  const size = sizeOf(options);
  for (const name of names)
    for (const needed of needs.get(name) ?? [])
      if (!options[needed])
        throw new EngineError("invalid_argument", `missing required option: ${JSON.stringify(needed)}`);
  const { type, device, o = "" } = options;
  if (type === undefined || device === undefined) return undefined;
  if (size !== undefined)
    throw new EngineError(
      "invalid_argument",
      "the option size limits a plain directory; limit what is mounted with o=",
    );
  if (type === "cifs") refusePort(device);
  for (const [name, text] of Object.entries({ type, device, o }))
    if (text.includes("\0")) throw new EngineError("invalid_argument", `the option ${name} holds a NUL`);
  return { type, device, o };
}

/** The limit in bytes; 0 is none, as in Docker. */
export function sizeOf({ size }: VolumeSpec["options"]): number | undefined {
  const bytes = size === undefined ? 0 : parseSize(size);
  return bytes === 0 ? undefined : bytes;
}

/** `//host:port/share`: the kernel takes the port as an option only. */
function refusePort(device: string): void {
  if (/^\/\/[^/]*:\d+(\/|$)/.test(device))
    throw new EngineError("invalid_argument", "port not allowed in CIFS device URL, include 'port' in 'o='");
}
