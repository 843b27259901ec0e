/** Sizes as people write and read them: Docker's units (docker/go-units: RAMInBytes, HumanSize). */
import { EngineError } from "./errors.ts";

const binaryUnits = ["", "k", "m", "g", "t", "p"];
const decimalUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes of `10m`, `1.5g`, `512k`, `100`; units are powers of 1024. Throws invalid_argument. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text);
  if (match === null) throw new EngineError("invalid_argument", `invalid size: '${text}'`);
  const exponent = binaryUnits.indexOf((match[2] ?? "").toLowerCase());
  return Math.floor(Number(match[1]) * 1024 ** exponent);
}

/** `52.43MB`: four digits, units are powers of 1000. */
export function humanSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < decimalUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${decimalUnits[unit]}`;
}
