/**
 * A volume of each of several drivers, `v-<driver>`, in containers of a daemon that is killed: filled from an image, seen
 * by those that run on, shared with new ones, and gone with what served it after the last.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { busyboxTar, type Daemon, startStrata } from "./engine.ts";
import { processesBelow } from "./processes.ts";
import { asFlags } from "./served-options.ts";
import { tarOf } from "./tar-bytes.ts";
import { until } from "./until.ts";

export type UsedDriver = {
  readonly name: string;
  /** Of its volume, as the CLI takes them. */
  readonly options: readonly string[];
  /** What serves a volume of it, if a program does. */
  readonly program?: string;
};

export type UsedWorld = {
  daemon: Daemon;
  readonly root: string;
  drivers: readonly UsedDriver[];
};

export const volumeOf = ({ name }: UsedDriver): string => `v-${name}`;

/** Makes the image `filled`: busybox, and a directory /d with `files` files, which hold their numbers. */
export async function makeFilled(daemon: Daemon, folder: string, files: number): Promise<void> {
  await daemon.ok(["import", await busyboxTar(join(folder, "bb.tar")), "bb"]);
  const all = Array.from({ length: files }, (_, index) => ({
    name: `d/many/${index % 10}/f${index}`,
    content: `${index}`,
  }));
  const base = [tarOf({ name: "d", type: "5", mode: 0o755 }, { name: "d/from-image", content: "filled" }, ...all)];
  await daemon.ok(["import", "-", "files"], { input: Buffer.concat(base) });
  await daemon.docker(["build", "-q", "-t", "filled", "-"], { input: "FROM bb\nCOPY --from=files /d /d\n" });
}

/** Processes that serve volumes of a driver. */
export const served = ({ root }: UsedWorld, { name, program }: UsedDriver): number[] =>
  processesBelow(join(root, "data/volume-drivers", name)).flatMap(({ pid, line }) =>
    program !== undefined && (line.split(" ")[0] ?? "").split("/").at(-1) === program ? [pid] : [],
  );

const mounted = ({ daemon }: UsedWorld, driver: UsedDriver): number =>
  readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").split(
    `/volume-drivers/${driver.name}/${volumeOf(driver)}/_data `,
  ).length - 1;

const each = ({ drivers }: UsedWorld, work: (driver: UsedDriver) => Promise<void>): Promise<unknown> =>
  Promise.all(drivers.map(work));

const runs = ({ daemon }: UsedWorld, name: string, driver: UsedDriver): Promise<string> => {
  const about = ["--network", "none", "--name", name, "-v", `${volumeOf(driver)}:/d`];
  return daemon.ok(["run", "-d", ...about, "filled", "sleep", "1000"]);
};

/** Afterwards a second container of each driver runs, `<driver>-2`, and its volume holds `f`, `g` and what the image has. */
export async function useOverKill(world: UsedWorld): Promise<void> {
  const { drivers, root } = world;
  for (const driver of drivers) {
    const options = asFlags(driver.options);
    await world.daemon.ok(["volume", "create", "-d", driver.name, ...options, volumeOf(driver)]);
  }
  await each(world, async (driver) => {
    await runs(world, `${driver.name}-1`, driver);
    await world.daemon.ok(["exec", `${driver.name}-1`, "sh", "-c", "echo kept > /d/f"]);
  });
  const before = drivers.map((driver) => served(world, driver));
  for (const [index, { program, name }] of drivers.entries())
    assert.equal(before[index]?.length, program === undefined ? 0 : 1, `${name}: programs`);
  await world.daemon.kill();
  world.daemon = await startStrata({ root });
  const { daemon } = world;
  const now = (): number[][] => drivers.map((driver) => served(world, driver));
  assert.deepEqual(now(), before, "the same programs serve");
  await each(world, async (driver) => {
    const { name } = driver;
    assert.equal(mounted(world, driver), 1, `${name}: one mount`);
    assert.equal(await daemon.ok(["exec", `${name}-1`, "cat", "/d/f", "/d/from-image"]), "kept\nfilled");
    await daemon.ok(["exec", `${name}-1`, "sh", "-c", "echo more > /d/g"]);
    await runs(world, `${name}-2`, driver);
    assert.equal(mounted(world, driver), 1, `${name}: one mount for both`);
    await daemon.ok(["rm", "-f", `${name}-1`]);
    assert.equal(await daemon.ok(["exec", `${name}-2`, "cat", "/d/f", "/d/g"]), "kept\nmore");
    assert.match((await daemon.docker(["volume", "rm", volumeOf(driver)])).stderr, /volume is in use/);
  });
  assert.deepEqual(now(), before, "and for a second container");
}

/** The last containers go, and with them every mount and program. */
export async function endUses(world: UsedWorld): Promise<void> {
  await each(world, async (driver) => {
    await world.daemon.ok(["rm", "-f", `${driver.name}-2`]);
    await until(`${driver.name}: unmounted`, () => mounted(world, driver) === 0);
    await until(`${driver.name}: its program ends`, () => served(world, driver).length === 0);
  });
}

/** For the end of a test, however it ended. */
export async function dropUses({ daemon, drivers, root }: UsedWorld): Promise<void> {
  await daemon.docker(["rm", "-f", "-v", ...drivers.flatMap(({ name }) => [`${name}-1`, `${name}-2`])]);
  await daemon.stop();
  for (const { pid, line } of processesBelow(join(root, "data/volume-drivers")))
    if (/^\S*(gocryptfs|sshfs|ssh|rclone|glusterfs) /.test(line)) process.kill(pid, "SIGKILL");
}

/** So many containers of `filled` begin one volume at once; all see the same, and nothing goes wrong. */
export async function beginTogether(daemon: Daemon, volume: string, count: number): Promise<void> {
  const look = "find /d -type f | sort | xargs md5sum | md5sum; find /d | sort | md5sum";
  const run = ["run", "--rm", "--network", "none", "-v", `${volume}:/d`, "filled", "sh", "-c", look];
  const all = await Promise.all(Array.from({ length: count }, () => daemon.docker(run, { deadline: 300_000 })));
  const answers = new Set(all.map(({ code, stdout, stderr }) => `${code} ${stdout}${stderr}`));
  assert.equal(answers.size, 1, [...answers].join("\n"));
  const [answer = ""] = answers;
  const image = await daemon.ok(["run", "--rm", "--network", "none", "filled", "sh", "-c", look]);
  assert.equal(answer, `0 ${image}\n`, "they see what the image has");
}
