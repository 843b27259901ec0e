/** `strata volume clone | rename | update | resize | du | who`: what they ask the engine, and what they print. */
import * as v from "valibot";
import { EngineError, errorMessage } from "../base/errors.ts";
import { looseObject } from "../base/shape.ts";
import { humanSize } from "../base/size.ts";
import { type EngineClient, openClient } from "../client/engine-client.ts";
import { keyValues } from "./daemon-config.ts";
import { tableText } from "./table.ts";
import {
  costText,
  finished,
  type HostFlag,
  type JsonFlag,
  pathOf,
  printJson,
  reportShape,
  sourceOf,
} from "./volume-messages.ts";

type CloneFlags = HostFlag &
  JsonFlag & {
    readonly driver?: string;
    readonly opt?: readonly string[];
    readonly label?: readonly string[];
    readonly pause: boolean;
  };

const volumeShape = looseObject({ Name: v.string() });
const cloned = looseObject({ Volume: volumeShape, Report: reportShape });

export async function clone(source: string, name: string, flags: CloneFlags): Promise<void> {
  const { volume, snapshot } = sourceOf(source);
  const query = new URLSearchParams({ snapshot, pause: flags.pause ? "1" : "0" });
  const messages = openClient(flags.host).messages(pathOf(volume, `clone?${query}`), newVolumeBody(name, flags));
  const result = await finished(messages, cloned);
  process.stderr.write(costText(result.Report));
  if (flags.json === true) printJson(result);
  else process.stdout.write(`${result.Volume.Name}\n`);
}

/** Body of what makes a volume. */
export const newVolumeBody = (
  name: string,
  { driver, opt, label }: Pick<CloneFlags, "driver" | "opt" | "label">,
): object => ({
  Name: name,
  ...(driver === undefined ? {} : { Driver: driver }),
  ...(opt === undefined ? {} : { DriverOpts: keyValues(opt) }),
  ...(label === undefined ? {} : { Labels: keyValues(label) }),
});

const migrated = looseObject({
  From: v.string(),
  To: v.string(),
  Bytes: v.number(),
  Stopped: v.array(v.string()),
  Downtime: v.number(),
  Seconds: v.number(),
  OldDataLeft: v.optional(v.string()),
});

type MigrateFlags = HostFlag &
  JsonFlag & { readonly to?: string; readonly opt?: readonly string[]; readonly cancel?: boolean };

export async function migrate(name: string, flags: MigrateFlags): Promise<void> {
  const client = openClient(flags.host);
  if (flags.cancel === true) {
    await client.delete(pathOf(name, "migrate"));
    process.stdout.write(`${name}\n`);
    return;
  }
  if (flags.to === undefined) throw new EngineError("invalid_argument", "name the driver to move to: --to DRIVER");
  const body = { Driver: flags.to, DriverOpts: keyValues(flags.opt ?? []) };
  const result = await finished(client.messages(pathOf(name, "migrate"), body), migrated);
  const { From, To, Bytes, Stopped, Downtime, Seconds, OldDataLeft } = result;
  process.stderr.write(
    `moved from ${From} to ${To} in ${Seconds.toFixed(1)}s, ${humanSize(Bytes)} copied and compared\n`,
  );
  if (Stopped.length > 0) process.stderr.write(`stopped for ${Downtime.toFixed(1)}s: ${Stopped.join(", ")}\n`);
  if (OldDataLeft !== undefined)
    process.stderr.write(
      `warning: the old data are still there, the next start of the daemon tries again: ${OldDataLeft}\n`,
    );
  if (flags.json === true) printJson(result);
  else process.stdout.write(`${name}\n`);
}

export async function rename(from: string, to: string, { host }: HostFlag): Promise<void> {
  await openClient(host).post(pathOf(from, `rename?${new URLSearchParams({ name: to })}`));
  process.stdout.write(`${to}\n`);
}

export async function update(name: string, flags: HostFlag & { readonly opt: readonly string[] }): Promise<void> {
  await openClient(flags.host).post(pathOf(name, "update"), { DriverOpts: keyValues(flags.opt) });
  process.stdout.write(`${name}\n`);
}

export async function resize(size: string, name: string, { host }: HostFlag): Promise<void> {
  await openClient(host).post(pathOf(name, `resize?${new URLSearchParams({ size })}`));
  process.stdout.write(`${name}\n`);
}

const listed = looseObject({ Volumes: v.nullish(v.array(volumeShape)) });

/** Those that were named, or all. */
async function namesOf(client: EngineClient, names: readonly string[]): Promise<readonly string[]> {
  if (names.length > 0) return names;
  return (v.parse(listed, await client.get("/volumes")).Volumes ?? []).map(({ Name }) => Name);
}

const usage = looseObject({
  Name: v.string(),
  Driver: v.string(),
  Bytes: v.number(),
  Allocated: v.number(),
  Inodes: v.number(),
  Reason: v.optional(v.string()),
});

export async function du(
  names: readonly string[],
  flags: HostFlag & JsonFlag & { readonly timeout?: string },
): Promise<void> {
  const client = openClient(flags.host);
  const query = flags.timeout === undefined ? "" : `?${new URLSearchParams({ timeout: flags.timeout })}`;
  const all = await each(await namesOf(client, names), async (name) =>
    v.parse(usage, await client.get(pathOf(name, `usage${query}`), { patient: true })),
  );
  if (flags.json === true) return printJson(all);
  const rows = all.map(({ Name, Driver, Bytes, Allocated, Inodes, Reason }) =>
    Reason === undefined
      ? [Name, Driver, humanSize(Bytes), humanSize(Allocated), String(Inodes - 1), ""]
      : [Name, Driver, "-", "-", "-", Reason],
  );
  const head = ["VOLUME", "DRIVER", "SIZE", "ON DISK", "FILES"];
  process.stdout.write(tableText([...head, rows.some((row) => row[5] !== "") ? "REASON" : ""], rows));
}

const users = looseObject({
  Name: v.string(),
  UsedAt: v.nullable(v.string()),
  Containers: v.array(
    looseObject({
      Id: v.string(),
      Name: v.string(),
      Status: v.string(),
      Mounts: v.array(looseObject({ Destination: v.string(), RW: v.boolean() })),
    }),
  ),
});

export async function who(names: readonly string[], flags: HostFlag & JsonFlag): Promise<void> {
  const client = openClient(flags.host);
  const all = await each(await namesOf(client, names), async (name) =>
    v.parse(users, await client.get(pathOf(name, "users"))),
  );
  if (flags.json === true) return printJson(all);
  const rows = all.flatMap(({ Name, UsedAt, Containers }) => {
    const used = UsedAt === null ? "never" : UsedAt.replace(/\.\d+Z$/, "Z");
    if (Containers.length === 0) return [[Name, "-", "-", "-", "-", used]];
    return Containers.flatMap((container) =>
      container.Mounts.map(({ Destination, RW }) => [
        Name,
        container.Name,
        container.Status,
        Destination,
        RW ? "rw" : "ro",
        used,
      ]),
    );
  });
  process.stdout.write(tableText(["VOLUME", "CONTAINER", "STATUS", "DESTINATION", "ACCESS", "LAST USED"], rows));
}

const atOnce = 4;

/** A few at once, in order; every one is asked, and the first failure is thrown when all were. */
async function each<T>(names: readonly string[], ask: (name: string) => Promise<T>): Promise<readonly T[]> {
  const answers: T[] = [];
  const failures: unknown[] = [];
  for (let at = 0; at < names.length; at += atOnce)
    for (const result of await Promise.allSettled(names.slice(at, at + atOnce).map(ask)))
      if (result.status === "fulfilled") answers.push(result.value);
      else failures.push(result.reason);
  if (failures.length > 0) throw new EngineError("internal", failures.map(errorMessage).join("; "));
  return answers;
}
