/** Options of the s3 driver. */
import { EngineError } from "../../base/errors.ts";
import { parseSize } from "../../base/size.ts";
import type { VolumeSpec } from "../driver.ts";
import { refuseUnknown } from "../option-names.ts";
import { parseReference } from "../secret-reference.ts";

export type S3Options = {
  readonly bucket: string;
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly prefix: string;
  /** Undefined: Amazon's, of the region. */
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly cacheMode: "writes" | "full";
  /** Bytes. */
  readonly cacheSize: number;
  readonly uid: string;
  readonly gid: string;
  readonly readonly: boolean;
};

const names = [
  ...[
    "bucket",
    "prefix",
    "endpoint",
    "region",
    "access_key",
    "secret_key",
    "vfs_cache",
    "cache_size",
    "uid",
    "gid",
    "ro",
  ],
];

type Options = VolumeSpec["options"];

/** Throws invalid_argument that names the option. */
export function parseOptions(options: Options): S3Options {
  refuseUnknown("s3", options, names);
  const { region, endpoint } = options;
  if (region === undefined && endpoint === undefined) throw missing("endpoint", 'or "region" for Amazon S3');
  for (const name of ["access_key", "secret_key"] as const) {
    const value = options[name];
    if (value === undefined) throw missing(name, `${name}=@/path/to/file names the file with it`);
    parseReference(name, value);
  }
  return {
    bucket: bucketOf(options),
    prefix: prefixOf(options),
    endpoint: endpoint === undefined ? undefined : endpointOf(endpoint),
    region: regionOf(region ?? "us-east-1"),
    cacheMode: cacheModeOf(options),
    cacheSize: cacheSizeOf(options),
    uid: numberOf(options, "uid"),
    gid: numberOf(options, "gid"),
    readonly: readonlyOf(options),
  };
}

function bucketOf({ bucket }: Options): string {
  if (bucket === undefined || bucket === "") throw missing("bucket", "the name of the bucket");
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket) && !bucket.includes("..")) return bucket;
  throw invalid("bucket", bucket, "a bucket's name");
}

/** Any words between slashes, but those that would mean another place. */
function prefixOf({ prefix = "" }: Options): string {
  const parts = prefix.replace(/^\/|\/$/g, "").split("/");
  const strange = parts.some((part) => part === "" || part === "." || part === "..");
  if (parts.join("/") !== "" && (strange || /[\x00-\x1f\x7f]/.test(prefix) || Buffer.byteLength(prefix) > 900))
    throw invalid("prefix", prefix, "a path below the bucket");
  return parts.join("/");
}

/** Its host and port alone: a password in an address would be kept. */
function endpointOf(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const plain = url !== undefined && url.username === "" && url.password === "" && url.search + url.hash === "";
  if (plain && /^https?:$/.test(url.protocol) && url.pathname === "/" && !/[\s\\]/.test(endpoint)) return url.origin;
  // Not repeated: it may hold a password.
  throw new EngineError(
    "invalid_argument",
    "invalid value of the option endpoint; it takes https://host or http://host:port",
  );
}

function regionOf(region: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(region)) return region;
  throw invalid("region", region, "a region's name");
}

function cacheModeOf({ vfs_cache = "writes" }: Options): S3Options["cacheMode"] {
  if (vfs_cache === "writes" || vfs_cache === "full") return vfs_cache;
  throw invalid("vfs_cache", vfs_cache, "writes or full; the others lose what could not be sent at once");
}

function cacheSizeOf({ cache_size = "1g" }: Options): number {
  const size = parseSize(cache_size);
  if (size >= 1024 * 1024) return size;
  throw invalid("cache_size", cache_size, "1m or more");
}

function numberOf(options: Options, name: "uid" | "gid"): string {
  const value = options[name] ?? "0";
  if (/^(0|[1-9]\d{0,9})$/.test(value) && Number(value) < 2 ** 32 - 1) return value;
  throw invalid(name, value, "a number");
}

/** `-o ro` has an empty value. */
function readonlyOf({ ro = "false" }: Options): boolean {
  if (ro === "" || ro === "true") return true;
  if (ro === "false") return false;
  throw invalid("ro", ro, "true or false");
}

const missing = (name: string, more: string): EngineError =>
  new EngineError("invalid_argument", `missing required option: ${JSON.stringify(name)}; ${more}`);

const invalid = (name: string, value: string, wanted: string): EngineError =>
  new EngineError(
    "invalid_argument",
    `invalid value of the option ${name}: ${JSON.stringify(value)}; it takes ${wanted}`,
  );
