import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { isError } from "../base/errors.ts";
import { readBucket } from "./bolt.ts";

/** `volumes/metadata.db` of dockerd 20.10 after 25 volumes, v1 to v24 with a label of 300 letters, and `docker volume rm v7`. */
const file = gunzipSync(
  Buffer.from(
    "H4sICMaTAWsCA21ldGFkYXRhLmRiAO3czWsTQRjH8c172kbIwZMoyF5UyKHTpq8gFPEotUePpnHVQN5o0m01BOrVv0C89OIfIKJHwaN48iiepAdP9n9wlsxuZgaqFZshge8HwuTZlBx+hHSffWbjeSNZtZ5+L52moyflUT3nmRbUekmtV9X64OT44NbOqw8eAAAAAACYOqm/9P/z1t+XrP7/mlo/vj9+8fqnf0CiAAAAAABMn3Sy5pJjO/KRkY+OujjwLmXWlzNmHWbN+ltuXIeiOvC3a63A3/Tlc7/i391rhMGeLJudeq0pD9yr7QbNnr85kEfaT+QLhzg3f1jx73f7jU5bJtjebzaHoVjREl8hcQeJr2qJr5K4g8TXtMTXSNxB4uta4uskPvHEOTcBAACTkTmj/4+uC7RVP/82ZdbljFl3s2b9NTeuQ639p/t3cJ6uNf/0/g7y1lp/On8HeWttKF2og7w3xnlvkDddPwAAmHnZpP8vJseOPHOef2L1/3es+f8ba/6fz5v104JZfymadWVeu14gtBNOwRmngzP8pXHgS+TtIO9FLfBFEneQuNASFyTuIHH9S4VvFReJL2uJL5O4g8S10cYSsw0HiWsfcT7hXIsE8H9ySf+fT449tOb/n6z+/7o1/z+y5v8/cma9VWA/APsB2A9A3hPIW7sRgPsAHOTN/gu3ebP/gp4HAIALlj+j/4/2BfRV/dm6HnAzbc7vX1r7AX5Z+wG2tf0AnW6/l5zRRMWfz2lq8uiuPFKXq/HPeuA/CsJGPXqXfqv7OHqbjnzeazwPbouWrPrPuuMXh8NQGwEyAXRw3iq0Kbdgyu0icf0jzmfcReLalFsw5XaRuDYCFMwA6YcBAMC/K6g1pe4E2FK9f3w1oOqNevf4dwJvqDq+b+CKei3+HYGopQ9FNRQbYZV0AQAAAACYDsUL6v9z9P8AAAAAAEytObWmvZS6DuB5ZW+0LyBaw05zvxX0iiQFAAAAAMDsmj9f/18gKQAAAAAAZteCWstqR398H3/Buj5QIioAAAAAAGZWyer/4/v44w3/8f0BC0QFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMDE/Aazrq9PAAABAA==",
    "base64",
  ),
);

const read = (bytes: Buffer, bucket = "volumes"): [string, string][] =>
  [...(readBucket(bytes, bucket) ?? [])].map(([key, value]) => [key, value.toString()]);

test("every record of a file that dockerd wrote over several pages is read, in order", () => {
  const records = read(file);
  const names = Array.from({ length: 24 }, (_, index) => `v${index + 1}`).filter((name) => name !== "v7");
  assert.deepEqual(
    records.map(([name]) => name),
    ["opts", ...names].sort(),
  );
  for (const [name, record] of records.filter(([key]) => key !== "opts"))
    assert.deepEqual(JSON.parse(record), {
      Name: name,
      Driver: "local",
      Labels: { long: "x".repeat(300) },
      Options: null,
    });
  assert.deepEqual(JSON.parse(new Map(records).get("opts") ?? ""), {
    Name: "opts",
    Driver: "local",
    Labels: { a: "b", c: "" },
    Options: { device: "tmpfs", o: "size=1m", type: "tmpfs" },
  });
});

test("a bucket that is not there is none", () => assert.equal(readBucket(file, "networks"), undefined));

test("where one meta page is broken the other counts", () => {
  const records = read(file).length;
  for (const at of [0, 4096]) {
    const broken = Buffer.from(file);
    broken.fill(0xff, at + 16, at + 80);
    // The older of the two knows the volume that was removed last.
    assert.ok([records, records + 1].includes(read(broken).length));
  }
  const both = Buffer.from(file);
  both.fill(0xff, 16, 80).fill(0xff, 4096 + 16, 4096 + 80);
  assert.throws(() => read(both), /neither meta page is sound/);
});

test("a page that leads back to itself ends", () => {
  const looped = Buffer.from(file);
  for (let at = 2 * 4096; at < looped.length; at += 4096)
    if ((looped.readUInt16LE(at + 8) & 1) !== 0) looped.writeBigUInt64LE(BigInt(at / 4096), at + 16 + 8);
  assert.throws(() => read(looped), /circle/);
});

test("an entry that says it is longer than the file is refused", () => {
  const long = Buffer.from(file);
  for (let at = 2 * 4096; at < long.length; at += 4096)
    if ((long.readUInt16LE(at + 8) & 2) !== 0) long.writeUInt32LE(0x7fff_ffff, at + 16 + 12);
  assert.throws(() => read(long), /an entry is cut off/);
});

test("no file is believed: damage is data_loss or another answer, never anything else", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 20 }),
      fc.nat(file.length),
      (changes, length) => {
        const bytes = Buffer.from(file);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          read(bytes.subarray(0, length));
        } catch (error) {
          assert.ok(isError(error, "data_loss"), String(error));
        }
      },
    ),
    { numRuns: 300 },
  );
});
