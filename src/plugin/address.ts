/**
 * The address of a plugin as a value, and the two kinds of files that hold one: `.spec`, a URL, and `.json`, a URL with
 * TLS. As in moby, TLS is for https only, and a server is verified when the file names the authority (CAFile).
 */
import { isAbsolute } from "node:path";
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { decodeShape, looseObject } from "../base/shape.ts";

export type PluginTls = {
  /** PEM files; without an authority the server is believed. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
};

export type PluginAddress =
  | { readonly kind: "unix"; readonly path: string }
  | {
      readonly kind: "tcp";
      readonly host: string;
      readonly port: number;
      /** Undefined: not encrypted. */
      readonly tls: PluginTls | undefined;
    };

const noFiles: PluginTls = { ca: undefined, cert: undefined, key: undefined };

/** The content of a `.spec` file. Throws invalid_argument that names the file. */
export function parseSpec(text: string, file: string): PluginAddress {
  return parseUrl(text.trim(), file, noFiles);
}

const file = v.nullish(v.string(), "");
const jsonFile = looseObject({
  Addr: v.string(),
  TLSConfig: v.nullish(
    looseObject({ InsecureSkipVerify: v.nullish(v.boolean()), CAFile: file, CertFile: file, KeyFile: file }),
  ),
});

/** The content of a `.json` file; the name in it means nothing, as in moby. Throws invalid_argument that names the file. */
export function parseJsonFile(text: string, path: string): PluginAddress {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new EngineError("invalid_argument", `${path} is not JSON`, { cause });
  }
  const decoded = decodeShape(jsonFile, value);
  if (!decoded.ok) throw new EngineError("invalid_argument", `${path}: ${decoded.path}: ${decoded.problem}`);
  const { Addr, TLSConfig } = decoded.value;
  const ca = TLSConfig?.InsecureSkipVerify === true ? "" : (TLSConfig?.CAFile ?? "");
  return parseUrl(Addr, path, {
    ca: ca || undefined,
    cert: TLSConfig?.CertFile || undefined,
    key: TLSConfig?.KeyFile || undefined,
  });
}

function parseUrl(text: string, path: string, tls: PluginTls): PluginAddress {
  const unknown = new EngineError(
    "invalid_argument",
    `Unknown protocol: ${path} needs unix://, tcp://, http:// or https://`,
  );
  const socket = /^unix:\/\/(.*)$/.exec(text)?.[1];
  if (socket !== undefined) {
    if (!isAbsolute(socket) || socket.includes("\0")) throw unknown;
    return { kind: "unix", path: socket };
  }
  const scheme = /^(tcp|http|https):\/\//.exec(text)?.[1];
  const url = text.replace(/^tcp:/, "http:");
  if (scheme === undefined || !URL.canParse(url)) throw unknown;
  const { hostname, port } = new URL(url);
  const usual = scheme === "https" ? 443 : 80;
  return {
    kind: "tcp",
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? usual : Number(port),
    tls: scheme === "https" ? tls : undefined,
  };
}
