/**
 * Storage drivers on filesystems of the guest's kernel (part of `npm run test:vm`): their own test files, as they are.
 * btrfs on a kernel of another age than this machine's; zfs on OpenZFS, where it was built for the guest's kernel
 * (sh scripts/vm-zfs.sh). STRATA_DRIVERS names some.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { command, scratchFolder } from "../support/engine.ts";
import { makeSystemDisk } from "./guest-disk.ts";
import { findKernel, makeFirstRoot } from "./kernel.ts";
import { dataDevice, Machine } from "./machine.ts";
import { NbdServer } from "./nbd-server.ts";
import { makeProjectDisk } from "./project-disk.ts";

const cache = new URL("../../node_modules/.cache/strata-vm", import.meta.url).pathname;
const timeout = 5_400_000;

type Run = {
  /** Test files, below src/. */
  readonly files: readonly string[];
  /** Of the tests in them. */
  readonly pattern?: string;
};

const runs: Readonly<Record<string, readonly Run[]>> = {
  btrfs: [
    { files: ["driver", "generations", "nested", "quota"].map((name) => `storage-driver/btrfs/${name}.test`) },
    { files: ["layer/fork.test"], pattern: "fork on btrfs" },
  ],
  zfs: [
    { files: ["zfs", "driver", "fork", "differences"].map((name) => `storage-driver/zfs/${name}.test`) },
    { files: ["layer/chain.property.test", "layer/fork.test"], pattern: "on zfs" },
  ],
};
const asked = (process.env.STRATA_DRIVERS ?? Object.keys(runs).join()).split(",");

const found = findKernel(cache);
const qemu = (await command("qemu-system-x86_64", ["--version"]).catch(() => undefined))?.code === 0;
const cannot = !qemu
  ? "qemu-system-x86_64 is not installed; npm run test:vm brings it"
  : found === undefined
    ? "there is no kernel for the guest; npm run test:vm brings it"
    : false;

/** The interpreter is slow: random tests are given fewer rounds. */
const rounds = process.env.STRATA_ROUNDS ?? "12";

const shell = ({ files, pattern }: Run): string => {
  const only = pattern === undefined ? "" : `--test-name-pattern='${pattern}'`;
  const options = `--disable-warning=ExperimentalWarning --test --test-concurrency=1 --test-reporter=spec ${only}`;
  return `FC_RUNS=${rounds} STRATA_RUNS=${rounds} node ${options} ${files.map((file) => `/strata/dist/${file}.js`).join(" ")} 2>&1`;
};

describe("storage drivers on the guest's filesystems", { skip: cannot, timeout }, () => {
  for (const [filesystem, parts] of Object.entries(runs).filter(([name]) => asked.includes(name))) {
    const unbuilt = filesystem === "zfs" && found?.zfs === undefined;
    const skip = unbuilt ? "OpenZFS was not built for the guest's kernel: sh scripts/vm-zfs.sh" : false;
    test(`${filesystem} passes its suites`, { skip, timeout }, async (context) => {
      assert.ok(found !== undefined);
      mkdirSync(cache, { recursive: true });
      const zfs = found.zfs === undefined ? [] : [{ from: found.zfs.root, programs: ["sbin/zfs", "sbin/zpool"] }];
      const systemDisk = join(cache, zfs.length > 0 ? "drivers-zfs.img" : "drivers.img");
      if (!existsSync(systemDisk)) await makeSystemDisk(systemDisk, { programs: ["btrfs"], unpacked: zfs });
      const projectDisk = join(cache, "drivers-project.img");
      const tests = parts.flatMap(({ files }) => files.map((file) => `src/${file}.ts`));
      await makeProjectDisk(projectDisk, { tests });
      using scratch = scratchFolder();
      const dataDisk = join(scratch.path, "disk.sock");
      await using _disk = await NbdServer.listen(dataDisk, 4 * 2 ** 30);
      const kernel = makeFirstRoot(found, cache);
      const machine = { folder: scratch.path, kernel, systemDisk, projectDisk, dataDisk, filesystem };
      await using guest = await Machine.boot(machine);
      const order = (script: string) =>
        guest.order({ do: "run", command: ["sh", "-c", script], deadline: timeout }, timeout);
      const ready = await order(
        `mkfs.ext4 -q -F ${dataDevice} && mount -t ext4 ${dataDevice} /tmp && uname -sr; zfs version 2>/dev/null; true`,
      );
      context.diagnostic(ready.text);
      for (const part of parts) {
        const { status, text } = await order(shell(part));
        context.diagnostic(text);
        assert.equal(status, 0, text);
        assert.match(text, /pass [1-9]/);
      }
    });
  }
});
