/**
 * PAX extended header records: `"<length> <key>=<value>\n"`, the length counting itself (POSIX pax, "pax Extended
 * Header"). Keys and values are byte strings. Empty values take the meaning of an earlier record away.
 */
import { EngineError } from "../base/errors.ts";
import type { ByteString } from "./bytes.ts";

const space = 0x20;
const newline = 0x0a;

/** Reads the records of one extended header; `where` names it in messages. */
export function parsePax(data: Buffer, where: string): Map<ByteString, ByteString> {
  const records = new Map<ByteString, ByteString>();
  for (let at = 0; at < data.length; ) {
    const blank = data.indexOf(space, at);
    const digits = blank < 0 ? "" : data.toString("latin1", at, blank);
    const length = /^[0-9]{1,9}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = blank < 0 ? -1 : data.indexOf(0x3d, blank);
    if (blank < 0 || end > data.length || equals < 0 || equals >= end || data[end - 1] !== newline)
      throw new EngineError("invalid_argument", `invalid tar: ${where} has a broken extended header record`);
    addRecord(records, data.toString("latin1", blank + 1, equals), data.toString("latin1", equals + 1, end - 1));
    at = end;
  }
  return records;

  function addRecord(into: Map<ByteString, ByteString>, key: ByteString, value: ByteString): void {
    const nulls = key.startsWith("SCHILY.xattr.") ? key : isName(key) ? value : "";
    if (key === "" || nulls.includes("\0"))
      throw new EngineError("invalid_argument", `invalid tar: ${where} has a NUL in its extended header`);
    into.set(key, value);
  }
}

const isName = (key: ByteString): boolean => key === "path" || key === "linkpath";

/** The text of records, in the order given. */
export function formatPax(records: Iterable<readonly [ByteString, ByteString]>): ByteString {
  let text = "";
  for (const [key, value] of records) {
    const rest = key.length + value.length + 3;
    let length = rest + String(rest).length;
    if (rest + String(length).length !== length) length = rest + String(length).length;
    text += `${length} ${key}=${value}\n`;
  }
  return text;
}

const decimal = /^(-?)([0-9]+)(?:\.([0-9]*))?$/;

/** The inverse of {@link parsePaxTime}. */
export function formatPaxTime(nanoseconds: bigint): ByteString {
  const [sign, size] = nanoseconds < 0n ? ["-", -nanoseconds] : ["", nanoseconds];
  const fraction = (size % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${size / 1_000_000_000n}${fraction === "" ? "" : `.${fraction}`}`;
}

/** A PAX time in nanoseconds, cut (not rounded) to nine digits; undefined when it is no time. */
export function parsePaxTime(text: ByteString): bigint | undefined {
  const match = text.length > 64 ? null : decimal.exec(text);
  if (match === null) return undefined;
  const [, sign, seconds = "0", fraction = ""] = match;
  const nanoseconds = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  return sign === "-" ? -nanoseconds : nanoseconds;
}
