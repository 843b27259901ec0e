/** A process that has the local driver over a root, for suites that kill it: `child.fixture.ts ROOT create|hold|churn`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorMessage } from "../../base/errors.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { VolumeDriver } from "../driver.ts";
import { openLocalDriver } from "./driver.ts";

const [root = "", verb = ""] = process.argv.slice(2);
const sized = { name: "sized", options: { size: "16m" } };
const spec = { name: "v1", options: {} };
await using pool = createPool({ size: 1 });
const driver = await openLocalDriver({ root, pool });

if (verb === "create") process.stdout.write(await driver.create(sized).then(() => "made", errorMessage));
if (verb === "hold") {
  await driver.create(sized);
  writeFileSync(join(await driver.mount(sized, "a"), "f"), "kept");
  process.stdout.write("mounted\n");
  setInterval(() => undefined, 1000);
}
if (verb === "churn") await churn(driver);

/** Every file of `v1` has one word, w0 or w1, at any moment; so has every snapshot and clone. */
async function churn({ snapshots }: VolumeDriver): Promise<void> {
  for (let round = 0; snapshots !== undefined; round++) {
    const clone = { name: "clone", options: {} };
    const verbs = [
      () => snapshots.restore(spec, `w${round % 2}`),
      () => snapshots.clone({ spec }, clone),
      () => snapshots.create(spec, "moment"),
      () => snapshots.remove(spec, "moment"),
      () => driver.remove(clone),
    ];
    for (const verb of verbs) {
      await verb();
      process.stdout.write("step\n");
    }
  }
}
