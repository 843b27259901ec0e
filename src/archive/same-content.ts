/** Comparing the contents of two regular files, by names in open directories. Synchronous: for workers. */
import { readSync } from "node:fs";
import { closeRead, O } from "../host/sys.ts";
import { nameOf } from "./bytes.ts";
import type { Location } from "./root-tree.ts";
import { openQuietly } from "./write-tree.ts";

const compareSize = 256 * 1024;

/** Yields how many bytes it has compared; returns whether both are the same to their end. */
export function* comparedContent(a: Location, b: Location): Generator<number, boolean> {
  const [one, other] = [Buffer.allocUnsafe(compareSize), Buffer.allocUnsafe(compareSize)];
  using first = openContent(a);
  using second = openContent(b);
  for (;;) {
    const length = readSync(first.fd, one, 0, compareSize, null);
    if (length === 0) return readSync(second.fd, other, 0, 1, null) === 0;
    for (let at = 0; at < length; ) {
      const read = readSync(second.fd, other, at, length - at, null);
      if (read === 0) return false;
      at += read;
    }
    if (one.compare(other, 0, length, 0, length) !== 0) return false;
    yield length;
  }
}

export function sameContent(a: Location, b: Location): boolean {
  const comparing = comparedContent(a, b);
  for (;;) {
    const { done, value } = comparing.next();
    if (done === true) return value;
  }
}

function openContent(at: Location): Disposable & { readonly fd: number } {
  const fd = openQuietly(at.fd, nameOf(at.name), O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  return { fd, [Symbol.dispose]: () => closeRead(fd) };
}
