/**
 * Detach keys: the sequence by which a person leaves an attached terminal without ending it (default ctrl-p ctrl-q).
 * Keys that turn out not to be the sequence reach the container, in order.
 */
import { EngineError } from "../../base/errors.ts";

const defaultKeys = Uint8Array.of(16, 17);
const controls = "@abcdefghijklmnopqrstuvwxyz[\\]^_";

/** `ctrl-p,ctrl-q` or single characters, comma-separated; empty means the default. */
export function parseDetachKeys(text: string | undefined): Uint8Array {
  if (text === undefined || text === "") return defaultKeys;
  const bad = (): never => {
    throw new EngineError("invalid_argument", `Invalid detach keys (${text}) provided`);
  };
  const codes = text.split(",").map((key) => {
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0);
    const control = /^ctrl-(.)$/i.exec(key)?.[1]?.toLowerCase();
    if (control === undefined) return bad();
    const code = controls.indexOf(control);
    return code === -1 ? bad() : code;
  });
  return Uint8Array.from(codes);
}

/** Watches typed bytes for the sequence across chunks. */
export class DetachWatcher {
  readonly #keys: Uint8Array;
  #matched = 0;

  constructor(keys: Uint8Array) {
    this.#keys = keys;
  }

  /** The bytes to pass on, and whether the sequence is complete (nothing after it counts). */
  push(data: Uint8Array): { readonly pass: Uint8Array; readonly detached: boolean } {
    const pass: number[] = [];
    for (const byte of data) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++;
        if (this.#matched === this.#keys.length) return { pass: Uint8Array.from(pass), detached: true };
        continue;
      }
      pass.push(...this.#keys.subarray(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) pass.push(byte);
    }
    return { pass: Uint8Array.from(pass), detached: false };
  }
}
