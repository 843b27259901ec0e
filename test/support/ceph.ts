/**
 * A real Ceph cluster of one machine for tests: a monitor, an OSD that keeps everything in memory and a metadata server
 * with a CephFS, on loopback, in a folder of their own, with keys of their own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { succeed } from "./engine.ts";
import { freePort } from "./ports.ts";
import { until } from "./until.ts";

/** What the cluster is made of: the monitor, what keeps data, and the metadata server. */
export type CephPart = "mon" | "osd" | "mds";

export type Ceph = AsyncDisposable & {
  readonly fs: string;
  /** The monitor's addresses, with their protocols. */
  readonly v1: string;
  readonly v2: string;
  /** The key of a client: in a file of its own, in a keyring, and as it is. */
  readonly key: (user: CephUser) => { readonly file: string; readonly keyring: string; readonly text: string };
  /** A part stops answering, and goes on. */
  readonly freeze: (...parts: readonly CephPart[]) => void;
  readonly thaw: (...parts: readonly CephPart[]) => void;
  /** Words for the program `ceph`, as its administrator. */
  readonly ceph: (words: string) => Promise<string>;
};

/** `app` may do everything in the filesystem, `narrow` only below /narrow, `reader` may not write. */
const capsOf = {
  app: { mon: "allow r", osd: "allow rw", mds: "allow rw" },
  narrow: { mon: "allow r", osd: "allow rw", mds: "allow rw path=/narrow" },
  reader: { mon: "allow r", osd: "allow r", mds: "allow r" },
} as const;
export type CephUser = keyof typeof capsOf;

const serverCaps = {
  "mon.": { mon: "allow *" },
  "client.admin": { mon: "allow *", osd: "allow *", mds: "allow *", mgr: "allow *" },
  "osd.0": { mon: "allow profile osd", osd: "allow *", mgr: "allow profile osd" },
  "mds.a": { mon: "profile mds", osd: "allow rwx", mds: "allow *", mgr: "profile mds" },
} as const;

const programs = ["ceph", "ceph-authtool", "ceph-fuse", "ceph-mds", "ceph-mon", "ceph-osd", "monmaptool"];
export const cephIsHere = programs.every((name) => existsSync(`/usr/bin/${name}`));

const fs = "shelf";

/** `folder` is the cluster's own. `host` is an address of loopback, an IPv6 one in brackets. */
export async function startCeph(folder: string, host = "127.0.0.1"): Promise<Ceph> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(folder, name);
  for (const name of ["mon", "osd", "mds"]) mkdirSync(at(name));
  const addresses = { v2: `v2:${host}:${await freePort()}`, v1: `v1:${host}:${await freePort()}` };
  const both = `[${addresses.v2},${addresses.v1}]`;
  const fsid = randomUUID();
  writeFileSync(at("ceph.conf"), configOf(folder, { fsid, host, both }));
  await makeKeys(folder);
  const config = ["-c", at("ceph.conf")];
  await succeed("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", both, at("monmap")]);
  await succeed("ceph-mon", ["--mkfs", "-i", "a", "--monmap", at("monmap"), "--keyring", at("all"), ...config]);
  const children = new Map<CephPart, ChildProcess>();
  const begin = (part: CephPart, id: string): void => {
    const log = openSync(at(`${part}.out`), "w");
    children.set(part, spawn(`ceph-${part}`, ["-f", "-i", id, ...config], { stdio: ["ignore", log, log] }));
  };
  const send = (signal: NodeJS.Signals, parts: readonly CephPart[]): void => {
    for (const part of parts) children.get(part)?.kill(signal);
  };
  const ask = [...config, "--keyring", at("client.admin.keyring")];
  const ceph = (words: string): Promise<string> => succeed("ceph", [...ask, ...words.split(" ")]);
  const cluster: Ceph = {
    fs,
    ...addresses,
    key: (user) => ({
      file: at(`${user}.key`),
      keyring: at(`client.${user}.keyring`),
      text: readFileSync(at(`${user}.key`), "utf8").trim(),
    }),
    freeze: (...parts) => send("SIGSTOP", parts),
    thaw: (...parts) => send("SIGCONT", parts),
    ceph,
    [Symbol.asyncDispose]: async () => {
      for (const child of children.values()) {
        child.kill("SIGKILL");
        if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      }
    },
  };
  try {
    begin("mon", "a");
    await makeFilesystem(folder, { ask, begin, ceph });
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
  return cluster;
}

type Making = {
  readonly ask: readonly string[];
  readonly begin: (part: CephPart, id: string) => void;
  readonly ceph: Ceph["ceph"];
};

async function makeFilesystem(folder: string, { ask, begin, ceph }: Making): Promise<void> {
  const osd = randomUUID();
  const made = ["--mkfs", "-i", "0", "--osd-uuid", osd, "-c", join(folder, "ceph.conf")];
  // One program for all of its words: each start of it takes a second.
  const input = [
    `osd new ${osd} 0`,
    "osd crush add osd.0 1.0 host=here root=default",
    "osd pool create meta 4",
    "osd pool create data 4",
    `fs new ${fs} meta data`,
    // The shortest there is: so long a client that crashed keeps what it had.
    `fs set ${fs} session_timeout 30`,
  ].join("\n");
  await Promise.all([succeed("ceph-osd", made), succeed("ceph", [...ask], { input: `${input}\n` })]);
  begin("osd", "0");
  begin("mds", "a");
  await until("the filesystem is served", async () => (await ceph("mds stat")).includes("up:active"));
}

async function makeKeys(folder: string): Promise<void> {
  const at = (name: string): string => join(folder, name);
  const clients = Object.entries(capsOf).map(([user, caps]) => [`client.${user}`, caps] as const);
  let first = ["--create-keyring"];
  for (const [name, caps] of [...Object.entries(serverCaps), ...clients]) {
    const flags = Object.entries(caps).flatMap((words) => ["--cap", ...words]);
    await succeed("ceph-authtool", [...first, at("all"), "--gen-key", "-n", name, ...flags]);
    first = [];
    const key = (await succeed("ceph-authtool", ["-p", "-n", name, at("all")])).trim();
    const caught = Object.entries(caps).map(([part, words]) => `\tcaps ${part} = "${words}"\n`);
    writeFileSync(at(`${name}.keyring`), `[${name}]\n\tkey = ${key}\n${caught.join("")}`, { mode: 0o600 });
    if (name.startsWith("client.")) writeFileSync(at(`${name.slice(7)}.key`), `${key}\n`, { mode: 0o600 });
  }
  chmodSync(at("all"), 0o600);
}

/** A lone OSD that was frozen for longer than four fifths of its grace does not find out that it may answer again. */
function configOf(folder: string, given: Readonly<Record<"fsid" | "host" | "both", string>>): string {
  const { fsid, host, both } = given;
  const is6 = host.startsWith("[");
  return `[global]
fsid = ${fsid}
mon host = ${both}
mon initial members = a
public addr = ${host}
public network = ${is6 ? "::1/128" : "127.0.0.0/8"}
ms bind ipv4 = ${!is6}
ms bind ipv6 = ${is6}
run dir = ${folder}
crash dir = ${folder}
admin socket =
pid file =
log file = ${folder}/$name.log
keyring = ${folder}/$name.keyring
mon data = ${folder}/mon
mon data avail crit = 1
osd data = ${folder}/osd
osd objectstore = memstore
memstore device bytes = 536870912
mds data = ${folder}/mds
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd heartbeat grace = 3600
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
auth allow insecure global id reclaim = false
`;
}
