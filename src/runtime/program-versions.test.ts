import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratchFolder } from "../../test/support/engine.ts";
import { processesBelow } from "../../test/support/processes.ts";
import { until } from "../../test/support/until.ts";
import { readVersions } from "./program-versions.ts";

/** Programs that answer when the file `go` is there, or at once. */
function makePrograms(folder: string): { readonly quick: string; readonly slow: string; readonly go: string } {
  const go = join(folder, "go");
  const slow = join(folder, "slow");
  writeFileSync(slow, `#!/bin/sh\nuntil [ -e ${go} ]; do sleep 0.1; done\necho slow version 2.1.6\n`, { mode: 0o755 });
  const quick = join(folder, "quick");
  writeFileSync(quick, "#!/bin/sh\necho quick version: 1.0\n", { mode: 0o755 });
  return { quick, slow, go };
}

test("a program that takes its time to tell its version holds nobody up, and is heard when it does", async () => {
  using folder = scratchFolder();
  const { quick, slow, go } = makePrograms(folder.path);
  using versions = await readVersions(quick, slow);
  assert.equal(versions.known.slow, "unknown");
  writeFileSync(go, "");
  await until("both have answered", () => versions.known.slow === "2.1.6" && versions.known.quick === "1.0");
});

test("closing gives up what has not answered", async () => {
  using folder = scratchFolder();
  const { slow, go } = makePrograms(folder.path);
  {
    using versions = await readVersions(slow);
    assert.equal(versions.known.slow, "unknown");
  }
  await until("its process has ended", () => processesBelow(go).length === 0 && processesBelow(slow).length === 0);
});

test("a program that cannot be run is an error at once", async () => {
  await assert.rejects(readVersions("/etc/passwd"));
});
