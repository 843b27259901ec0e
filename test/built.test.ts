/** The package as it is published: JavaScript that was built, without types to strip, runs a daemon and its threads. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { busyboxTar, scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";

const project = fileURLToPath(new URL("..", import.meta.url));
const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

test("what `npm run build` makes imports, builds, runs and measures", { skip }, async () => {
  using scratch = scratchFolder();
  // Packages are looked up from where the modules stand.
  const built = join(project, "node_modules/.cache", `built-${process.pid}`);
  try {
    const tsc = join(project, "node_modules/.bin/tsc");
    await succeed(tsc, ["-p", join(project, "tsconfig.build.json"), "--outDir", built]);
    const program = [process.execPath, join(built, "cli/main.js")] as const;
    await using daemon = await startStrata({ root: join(scratch.path, "strata"), program });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
    await daemon.ok(["build", "-q", "-t", "built", "-"], { input: "FROM bb\nRUN echo 12345 > /f\n" });
    await daemon.ok([
      "run",
      "--network",
      "none",
      "--name",
      "one",
      "-v",
      "vol:/etc",
      "built",
      "sh",
      "-c",
      "cat /f; echo x > /g",
    ]);
    assert.equal(await daemon.ok(["logs", "one"]), "12345");
    assert.match(await daemon.ok(["ps", "-as", "--format", "{{.Size}}"]), /^2B /);
    await daemon.ok(["rm", "-v", "one"]);
    await daemon.ok(["volume", "rm", "vol"]);
  } finally {
    await unmountBelow(scratch.path);
    rmSync(built, { recursive: true, force: true });
  }
});
