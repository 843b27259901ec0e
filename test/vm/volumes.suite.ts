/**
 * Volumes on servers, in a virtual machine whose kernel has their clients (part of `npm run test:vm`): the drivers nfs and
 * cifs through the conformance suite, against the kernel's NFS server and Samba in the same guest, and limits of local volumes by
 * project quotas; containers of the daemon on volumes of both, and of a stock dockerd and podman by the plugin.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { command, scratchFolder, succeed } from "../support/engine.ts";
import { makeSystemDisk } from "./guest-disk.ts";
import { findKernel, makeFirstRoot } from "./kernel.ts";
import { dataDevice, Machine } from "./machine.ts";
import { NbdServer } from "./nbd-server.ts";
import { makeProjectDisk } from "./project-disk.ts";
import { copyServices } from "./service-disk.ts";

const cache = new URL("../../node_modules/.cache/strata-vm", import.meta.url).pathname;
const packages = join(cache, "packages");
const timeout = 3_600_000;
const diskSize = 2 ** 30;

const found = findKernel(cache);
const qemu = (await command("qemu-system-x86_64", ["--version"]).catch(() => undefined))?.code === 0;
const skip = !qemu
  ? "qemu-system-x86_64 is not installed; npm run test:vm brings it"
  : found === undefined || !existsSync(join(packages, "complete"))
    ? "there is no kernel or there are no servers for the guest; npm run test:vm brings them"
    : false;

describe("volumes on servers", { skip, timeout }, () => {
  for (const [title, script] of [
    ["the drivers nfs and cifs", "volume-drivers"],
    ["containers of the daemon on them", "volume-story"],
    ["a stock dockerd and podman on them, by the plugin", "plugin-story"],
  ])
    test(title ?? "", { timeout }, async (context) => {
      assert.ok(found !== undefined);
      mkdirSync(cache, { recursive: true });
      const systemDisk = join(cache, "servers.img");
      const projectDisk = join(cache, "project.img");
      const kernel = makeFirstRoot(found, cache);
      if (!existsSync(systemDisk)) await makeSystemDisk(systemDisk, { fill: (root) => copyServices(packages, root) });
      const commit = await succeed("git", ["rev-parse", "--short", "HEAD"]).catch(() => "unknown");
      await makeProjectDisk(projectDisk);
      using scratch = scratchFolder();
      const dataDisk = join(scratch.path, "disk.sock");
      await using _disk = await NbdServer.listen(dataDisk, diskSize);
      const options = { folder: scratch.path, kernel, systemDisk, projectDisk, dataDisk, filesystem: "volumes" };
      await using machine = await Machine.boot(options);
      const command = ["sh", "-c", `uname -srv; exec node /strata/test/vm/guest/${script}.js ${dataDevice} 2>&1`];
      const { status, text } = await machine.order({ do: "run", command, deadline: timeout }, timeout);
      context.diagnostic(`commit ${commit.trim()}, kernel ${text}`);
      assert.equal(status, 0, text);
    });
});
