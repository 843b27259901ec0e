/**
 * Versions of the Engine API: clients may put one before every path (`/v1.45/info`). The server answers 1.24 to 1.48
 * and shapes a few answers by the version asked for; without a prefix the newest counts.
 */
import type { IncomingMessage } from "node:http";
import { EngineError } from "../../base/errors.ts";

export const apiVersion = "1.48";
export const minApiVersion = "1.24";

const prefixed = /^\/v([0-9][0-9.]*)(\/.*)$/;
const versions = new WeakMap<IncomingMessage, string>();

/** Takes the version prefix off a request's URL and remembers it for {@link versionOf}. */
export function stripVersion(request: IncomingMessage): string {
  const url = request.url ?? "/";
  const match = prefixed.exec(url);
  if (match?.[1] === undefined || match[2] === undefined) return url;
  versions.set(request, match[1]);
  return match[2];
}

/** The API version that a request asks for. */
export function versionOf(request: IncomingMessage): string {
  return versions.get(request) ?? apiVersion;
}

function parts(version: string): readonly number[] {
  return version.split(".").map(Number);
}

/** Numeric comparison of dotted versions: 1.9 is older than 1.24. */
export function isOlder(version: string, than: string): boolean {
  const left = parts(version);
  const right = parts(than);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** Throws invalid_argument, in Docker's words, for a version outside what is served. */
export function checkVersion(version: string): void {
  if (isOlder(version, minApiVersion)) {
    throw new EngineError(
      "invalid_argument",
      `client version ${version} is too old. Minimum supported API version is ${minApiVersion}, please upgrade your client to a newer version`,
    );
  }
  if (isOlder(apiVersion, version)) {
    throw new EngineError(
      "invalid_argument",
      `client version ${version} is too new. Maximum supported API version is ${apiVersion}`,
    );
  }
}
