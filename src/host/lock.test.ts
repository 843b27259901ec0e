import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { isError } from "../base/errors.ts";
import { lockFile } from "./lock.ts";

let directory = "";
before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-lock-"));
});
after(() => rmSync(directory, { recursive: true }));

test("the second taker is told the pid of the first; after release it takes the lock", async () => {
  const path = join(directory, "one.pid");
  {
    await using _ = lockFile(path);
    assert.equal(readFileSync(path, "utf8"), `${process.pid}\n`);
    assert.throws(
      () => lockFile(path),
      (error) => isError(error, "conflict") && error.message.includes(`${process.pid}`),
    );
  }
  assert.ok(!existsSync(path));
  const again = lockFile(path);
  await again[Symbol.asyncDispose]();
  await again[Symbol.asyncDispose]();
});

test("a file that a dead process left holds nothing", async () => {
  const path = join(directory, "left.pid");
  writeFileSync(path, "4194304 and a longer text than the new pid");
  await using _ = lockFile(path);
  assert.equal(readFileSync(path, "utf8"), `${process.pid}\n`);
});

test("the lock goes with its process, also when that is killed, and no child keeps it", async () => {
  const path = join(directory, "killed.pid");
  const script = `
    const { lockFile } = await import(${JSON.stringify(new URL("./lock.ts", import.meta.url).href)});
    const { spawn } = await import("node:child_process");
    lockFile(${JSON.stringify(path)});
    const child = spawn("sleep", ["20"], { stdio: "ignore", detached: true });
    console.log(child.pid);
    setInterval(() => undefined, 1000);`;
  const holder = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(holder.stdout, "data")) as [Buffer];
  const bystander = Number(line.toString());
  try {
    assert.throws(
      () => lockFile(path),
      (error) => isError(error, "conflict") && error.message.includes(`${holder.pid}`),
    );
    holder.kill("SIGKILL");
    await once(holder, "exit");
    process.kill(bystander, 0);
    await using _ = lockFile(path);
  } finally {
    process.kill(bystander, "SIGKILL");
  }
});
