import assert from "node:assert/strict";
import { test } from "node:test";
import { type Blocks, blockSize, DiskLog } from "./disk-log.ts";

const block = (value: number): Buffer => Buffer.alloc(blockSize, value);
const valueAt = (disk: Blocks, number: number): number | undefined => disk.get(number)?.[0];
const none = (): boolean => false;

test("a cut keeps what a flush covers, and of the rest what survives", () => {
  const log = new DiskLog(new Map([[9, block(9)]]));
  log.write(0, Buffer.concat([block(1), block(2)]));
  log.flush(log.length);
  log.write(blockSize, block(3));
  assert.deepEqual(
    [0, 1, 9].map((number) => valueAt(log.cut(log.length, none), number)),
    [1, 2, 9],
  );
  assert.equal(
    valueAt(
      log.cut(log.length, () => true),
      1,
    ),
    3,
  );
  assert.equal(valueAt(log.cut(2, none), 0), undefined, "before the flush nothing was promised");
  assert.equal(log.read(blockSize, blockSize)[0], 3, "the machine sees what it wrote");
});

test("a flush does not cover a write that was not answered when it was sent", () => {
  const log = new DiskLog();
  log.write(0, block(1));
  log.write(blockSize, block(2));
  log.flush(1);
  const disk = log.cut(log.length, none);
  assert.deepEqual([valueAt(disk, 0), valueAt(disk, 1)], [1, undefined]);
});

test("of two writes to one block the later can be lost and the earlier kept, and the other way round", () => {
  const log = new DiskLog();
  log.write(0, block(1));
  log.write(0, block(2));
  const keep = (wanted: number): Blocks => {
    let seen = 0;
    return log.cut(log.length, () => ++seen === wanted);
  };
  assert.equal(valueAt(keep(1), 0), 1);
  assert.equal(valueAt(keep(2), 0), 2);
});

test("moments to replay to stand before each flush", () => {
  const log = new DiskLog();
  log.write(0, block(1));
  log.flush(1);
  log.write(0, block(2));
  log.flush(3);
  assert.deepEqual(log.flushes(), [1, 3]);
  assert.equal(valueAt(log.cut(3, none), 0), 1);
  assert.equal(log.writes(3), 2);
});
