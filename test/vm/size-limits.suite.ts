/**
 * Size limits by project quotas, in a virtual machine whose kernel has them (part of `npm run test:vm`): overlay2's
 * limits on ext4 and xfs are kept by them, through the whole conformance suite with STRATA_SIZES=all.
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
const extent = process.env.STRATA_SIZES ?? "size";
const timeout = 3_600_000;

const found = findKernel(cache);
const qemu = (await command("qemu-system-x86_64", ["--version"]).catch(() => undefined))?.code === 0;
const skip = !qemu
  ? "qemu-system-x86_64 is not installed; npm run test:vm brings it"
  : found === undefined
    ? "there is no kernel for the guest; npm run test:vm brings it"
    : false;

describe("size limits by project quotas", { skip, timeout }, () => {
  for (const filesystem of ["ext4", "xfs"])
    test(`${filesystem} keeps overlay2's limits`, { timeout }, async (context) => {
      assert.ok(found !== undefined);
      mkdirSync(cache, { recursive: true });
      const systemDisk = join(cache, "system.img");
      const projectDisk = join(cache, "project.img");
      const kernel = makeFirstRoot(found, cache);
      if (!existsSync(systemDisk)) await makeSystemDisk(systemDisk);
      await makeProjectDisk(projectDisk);
      using scratch = scratchFolder();
      const dataDisk = join(scratch.path, "disk.sock");
      await using _disk = await NbdServer.listen(dataDisk, 2 ** 30);
      const options = { folder: scratch.path, kernel, systemDisk, projectDisk, dataDisk, filesystem };
      await using machine = await Machine.boot(options);
      const script = `exec node /strata/test/vm/guest/size-limits.js ${filesystem} ${dataDevice} ${extent} 2>&1`;
      const run = { do: "run", command: ["sh", "-c", script], deadline: timeout } as const;
      const { status, text } = await machine.order(run, timeout);
      context.diagnostic(text);
      assert.equal(status, 0, text);
      assert.match(text, new RegExp(`${filesystem}: all of it holds\n$`));
    });
});
