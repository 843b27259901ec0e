import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Breakers } from "./breaker.ts";

const broken = { volume: "v1", driver: "nfs" };
const refused = {
  code: "unavailable",
  message:
    /^volume v1 of driver nfs does not answer since \d{4}-.*Z: whoever serves it is asked again in the background; try again later$/,
};

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 3000, "waited too long");
    await sleep(5);
  }
}

test("a breaker refuses its volume alone, is asked again until there is an answer, and then passes", async () => {
  const breakers = new Breakers(5);
  let asked = 0;
  breakers.check("v1");
  breakers.trip(broken, async () => {
    if (++asked < 3) throw new Error("silence");
  });
  assert.throws(() => breakers.check("v1"), refused);
  breakers.check("v2");
  assert.match(breakers.warnings().join(), /^volume v1 of driver nfs does not answer since [^,]*background$/);
  await until(() => asked === 3 && breakers.warnings().length === 0);
  breakers.check("v1");
  breakers.trip(broken, async () => undefined);
  assert.throws(() => breakers.check("v1"), refused, "it may hang again");
  await breakers.close("v1");
});

test("of many that wait too long one asks; a volume that goes is asked for no more, once the question has ended", async () => {
  const breakers = new Breakers(1);
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = 0;
  const probe = (): Promise<void> => {
    asked++;
    return promise.then(() => assert.fail("no answer"));
  };
  for (let index = 0; index < 5; index++) breakers.trip(broken, probe);
  await until(() => asked === 1);
  let closed = false;
  const closing = breakers.close("v1").then(() => {
    closed = true;
  });
  await sleep(20);
  assert.equal(closed, false, "its mount may still be on its way");
  resolve();
  await closing;
  breakers.check("v1");
  await sleep(20);
  assert.equal(asked, 1);
});
