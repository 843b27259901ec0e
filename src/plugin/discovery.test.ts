import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { parseJsonFile, parseSpec } from "./address.ts";
import { PluginClient } from "./client.ts";
import { findPlugin, listPlugins, type PluginFolders } from "./discovery.ts";

/** For localhost, valid for a hundred years, known to everybody: it protects nothing. */
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgCR8p5jXlj6LiWArv
vqRt1+WBjnLCP4fwqbyTj4BRUfihRANCAATAwAeYMi5NJEuiPRXZ7EdsMWl6VjT/
fFZfTil2jgcxWsU3Iu9NJzRtx4YsIwJe6Ar5zYHqyG3q/1joD5chK8tB
-----END PRIVATE KEY-----
`;
const certificate = `-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUQUgxSTcBF0+4facTTHx2Pkr8rWswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTE0MTMwNVoYDzIxMjYxMDI4
MTQxMzA1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATAwAeYMi5NJEuiPRXZ7EdsMWl6VjT/fFZfTil2jgcxWsU3Iu9NJzRt
x4YsIwJe6Ar5zYHqyG3q/1joD5chK8tBo28wbTAdBgNVHQ4EFgQUh4TkjPEKPBlC
3ETFETgPT/kvJkwwHwYDVR0jBBgwFoAUh4TkjPEKPBlC3ETFETgPT/kvJkwwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgZDpLa/SY7xbYV5yxaRqebTA9tquVj3ISV1FMDkkOzSECIAKV
EwkwIvKh37Bhlk4MkMBxyaBAsy8bcgFisQhHV9Ew
-----END CERTIFICATE-----
`;

type Given = {
  readonly root: string;
  readonly folders: PluginFolders;
  readonly listen: (server: Server, at: string | number) => Promise<number>;
};

async function given(work: (given: Given) => Promise<void>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const root = mkdtempSync(join(tmpdir(), "plugins-"));
  stack.defer(() => rmSync(root, { recursive: true }));
  const listen: Given["listen"] = async (server, at) => {
    if (typeof at === "string") mkdirSync(dirname(at), { recursive: true });
    server.listen(at as string);
    stack.defer(async () => {
      server.close();
      await once(server, "close");
    });
    await once(server, "listening");
    return typeof at === "number" ? (server.address() as AddressInfo).port : 0;
  };
  const folders = { sockets: [join(root, "run")], specs: [join(root, "etc"), join(root, "usr")] };
  await work({ root, folders, listen });
}

function put(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

describe("finding a plugin", () => {
  test("the first wins: sockets, then each folder's .spec and .json, each also one folder deeper", () =>
    given(async ({ root, folders, listen }) => {
      const places: readonly (readonly [string, () => Promise<unknown>, object])[] = [
        ["usr json deep", async () => put(join(root, "usr/p/p.json"), '{"Addr":"tcp://h:8"}'), { port: 8 }],
        ["usr json", async () => put(join(root, "usr/p.json"), '{"Name":"other","Addr":"tcp://h:7"}'), { port: 7 }],
        ["usr spec deep", async () => put(join(root, "usr/p/p.spec"), "tcp://h:6"), { port: 6 }],
        ["usr spec", async () => put(join(root, "usr/p.spec"), "tcp://h:5\n"), { port: 5 }],
        ["etc json", async () => put(join(root, "etc/p.json"), '{"Addr":"http://h:4"}'), { port: 4 }],
        ["etc spec", async () => put(join(root, "etc/p.spec"), "unix:///x.sock"), { kind: "unix", path: "/x.sock" }],
        ["socket deep", () => listen(createServer(), join(root, "run/p/p.sock")), { path: join(root, "run/p/p.sock") }],
        ["socket", () => listen(createServer(), join(root, "run/p.sock")), { path: join(root, "run/p.sock") }],
      ];
      assert.equal(await findPlugin("p", folders), undefined);
      for (const [title, make, wanted] of places) {
        await make();
        assert.partialDeepStrictEqual(await findPlugin("p", folders), wanted, title);
        assert.deepEqual(await listPlugins(folders), ["p"], title);
      }
    }));

  test("a file where a socket should be is none; names never lead out of the folders", () =>
    given(async ({ root, folders }) => {
      put(join(root, "run/p.sock"), "");
      put(join(root, "other.spec"), "tcp://h:1");
      mkdirSync(join(root, "etc"));
      for (const name of ["p", "../other", "..", "", "a/b", "x".repeat(300)])
        assert.equal(await findPlugin(name, folders), undefined, name);
    }));
});

describe("files that name an address", () => {
  const good: readonly (readonly [string, object])[] = [
    ["tcp://127.0.0.1:8080", { kind: "tcp", host: "127.0.0.1", port: 8080, tls: undefined }],
    ["  http://host \n", { kind: "tcp", host: "host", port: 80, tls: undefined }],
    ["https://[::1]:1", { kind: "tcp", host: "::1", port: 1, tls: { ca: undefined, cert: undefined, key: undefined } }],
    ["unix:///run/x.sock", { kind: "unix", path: "/run/x.sock" }],
  ];
  for (const [text, address] of good) test(text.trim(), () => assert.deepEqual(parseSpec(text, "f"), address));
  for (const text of ["", "/run/x.sock", "ftp://h", "unix://x.sock", "tcp://", "tcp://h:99999", "unix:///a\0b"])
    test(`${JSON.stringify(text)} is refused by the file's name`, () =>
      assert.throws(() => parseSpec(text, "/etc/p.spec"), {
        code: "invalid_argument",
        message: /^Unknown protocol: \/etc\/p.spec/,
      }));
  for (const [text, message] of [
    ["{", /p.json is not JSON/],
    ['{"Addr":1}', /Addr: Invalid input/],
    ["[]", /p.json: /],
  ] as const)
    test(`${text} as JSON is refused`, () =>
      assert.throws(() => parseJsonFile(text, "p.json"), { code: "invalid_argument", message }));
});

describe("over TCP", () => {
  const answer: RequestListener = (_, response) => response.end('{"Implements":["VolumeDriver"]}');
  const client = (folders: PluginFolders): PluginClient =>
    new PluginClient("p", folders, { patience: { retry: 200, rest: 1000, trial: 5000 } });

  test("without TLS", () =>
    given(async ({ root, folders, listen }) => {
      put(join(root, "etc/p.spec"), `tcp://127.0.0.1:${await listen(createHttpServer(answer), 0)}`);
      assert.deepEqual(await client(folders).activate(), ["VolumeDriver"]);
    }));

  test("with TLS: believed without an authority, verified with one", () =>
    given(async ({ root, folders, listen }) => {
      const Addr = `https://localhost:${await listen(createHttpsServer({ key, cert: certificate }, answer), 0)}`;
      const write = (TLSConfig?: object): void => put(join(root, "etc/p.json"), JSON.stringify({ Addr, TLSConfig }));
      write();
      assert.deepEqual(await client(folders).activate(), ["VolumeDriver"]);
      put(join(root, "ca.pem"), certificate);
      write({ CAFile: join(root, "ca.pem") });
      assert.deepEqual(await client(folders).activate(), ["VolumeDriver"]);
      const { rootCertificates } = await import("node:tls");
      put(join(root, "ca.pem"), rootCertificates[0] ?? "");
      await assert.rejects(client(folders).activate(), {
        code: "unavailable",
        message: /plugin "p" cannot be reached/,
      });
      write({ CAFile: join(root, "ca.pem"), InsecureSkipVerify: true });
      assert.deepEqual(await client(folders).activate(), ["VolumeDriver"]);
    }));
});
