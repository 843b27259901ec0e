/**
 * Names of images by the grammar of distribution/reference.
 * - canonical: every part written out, "docker.io/library/busybox:latest" (how the image store keeps them);
 * - familiar: the short form people type and Docker prints, "busybox:latest".
 * A reference has a repository (domain and path) and a tag, a digest, both or neither.
 */
import { EngineError } from "./errors.ts";

export type Reference = {
  /** Registry host, with its port: "docker.io", "localhost:5000". */
  readonly domain: string;
  /** "library/busybox". */
  readonly path: string;
  readonly tag: string | undefined;
  /** "sha256:...". */
  readonly digest: string | undefined;
};

const defaultDomain = "docker.io";
const legacyDomain = "index.docker.io";
const officialPrefix = "library/";
const defaultTag = "latest";
const pathLimit = 255;

const domainComponent = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const domain = `(?:${domainComponent}(?:\\.${domainComponent})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const path = `${pathComponent}(?:/${pathComponent})*`;
const digestText = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
const tagText = "[\\w][\\w.-]{0,127}";
const grammar = new RegExp(`^(${domain})/(${path})(?::(${tagText}))?(?:@(${digestText}))?$`);
const tagOnly = new RegExp(`^${tagText}$`);

/** Hex digits of the digest algorithms that a reference may use. */
const digestLengths: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

/** Parses a familiar or canonical reference; no tag is made up. Throws invalid_argument in Docker's words. */
export function parseReference(text: string): Reference {
  if (/^[a-f0-9]{64}$/.test(text))
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const [host, remainder] = splitDomain(text);
  const repository = remainder.split(":", 1)[0]?.split("@", 1)[0] ?? "";
  if (repository !== repository.toLowerCase())
    throw invalid(`invalid reference format: repository name (${shown(repository)}) must be lowercase`);
  const match = grammar.exec(`${host}/${remainder}`);
  if (match === null) throw invalid("invalid reference format");
  const [, domainPart = "", pathPart = "", tag, digest] = match;
  if (pathPart.length > pathLimit) throw invalid(`repository name must not be more than ${pathLimit} characters`);
  if (digest !== undefined) checkDigest(digest);
  return { domain: domainPart, path: pathPart, tag, digest };
}

/** `tag` alone, as in `docker tag` and `POST /commit?tag=`. */
export function isTag(text: string): boolean {
  return tagOnly.test(text);
}

/** The reference with tag `latest` where it has neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: defaultTag } : reference;
}

/** "docker.io/library/busybox:1@sha256:...". */
export function canonicalName(reference: Reference): string {
  return `${canonicalRepository(reference)}${suffix(reference)}`;
}

/** "docker.io/library/busybox". */
export function canonicalRepository(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** "busybox:1"; takes a canonical name too. */
export function familiarName(reference: Reference | string): string {
  const parsed = typeof reference === "string" ? parseReference(reference) : reference;
  return `${familiarRepository(parsed)}${suffix(parsed)}`;
}

/** "busybox". */
export function familiarRepository({ domain: host, path: repository }: Reference): string {
  if (host !== defaultDomain) return `${host}/${repository}`;
  const short = repository.slice(officialPrefix.length);
  return repository.startsWith(officialPrefix) && !short.includes("/") ? short : repository;
}

/** Canonical name of what a person typed, with the default tag: the key of the image store. */
export function canonicalOf(text: string): string {
  return canonicalName(withDefaultTag(parseReference(text)));
}

function suffix({ tag, digest }: Reference): string {
  return `${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** What stands before the first slash is a host only if it looks like one. */
function splitDomain(text: string): [host: string, remainder: string] {
  const slash = text.indexOf("/");
  const first = text.slice(0, Math.max(slash, 0));
  const isHost = slash >= 0 && (/[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase());
  const host = !isHost || first === legacyDomain ? defaultDomain : first;
  const remainder = isHost ? text.slice(slash + 1) : text;
  if (host === defaultDomain && !remainder.includes("/")) return [host, `${officialPrefix}${remainder}`];
  return [host, remainder];
}

function checkDigest(digest: string): void {
  const [algorithm = "", hex = ""] = digest.split(":");
  const length = digestLengths[algorithm];
  if (length === undefined) throw invalid("unsupported digest algorithm");
  if (hex.length !== length) throw invalid("invalid checksum digest length");
  if (hex !== hex.toLowerCase()) throw invalid("invalid checksum digest format");
}

const shown = (repository: string): string =>
  repository.startsWith(officialPrefix) ? repository.slice(officialPrefix.length) : repository;

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
