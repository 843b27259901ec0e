import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { scratchFolder } from "../support/engine.ts";
import { blockSize } from "./disk-log.ts";
import { NbdServer } from "./nbd-server.ts";

const read = 0;
const write = 1;
const flush = 3;

function request(type: number, offset: number, data: number | Buffer): Buffer {
  const head = Buffer.alloc(28);
  head.writeUInt32BE(0x25609513, 0);
  head.writeUInt16BE(type, 6);
  head.writeBigUInt64BE(77n, 8);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeUInt32BE(typeof data === "number" ? data : data.length, 24);
  return typeof data === "number" ? head : Buffer.concat([head, data]);
}

async function bytes(socket: Socket, length: number): Promise<Buffer> {
  let all = Buffer.alloc(0);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    all = Buffer.concat([all, chunk as Buffer]);
    if (all.length >= length) break;
  }
  return all;
}

/** A client after the negotiation that qemu makes: option GO for the only export. */
async function negotiated(path: string): Promise<Socket> {
  const socket = connect(path);
  assert.equal((await bytes(socket, 18)).toString("latin1", 0, 16), "NBDMAGICIHAVEOPT");
  const go = Buffer.alloc(4 + 16 + 6);
  go.write("IHAVEOPT", 4, "latin1");
  go.writeUInt32BE(7, 12);
  go.writeUInt32BE(6, 16);
  socket.write(go);
  const answer = await bytes(socket, 20 + 12 + 20);
  assert.equal(answer.readBigUInt64BE(22), 65536n, "the size of the disk");
  assert.equal(answer.readUInt16BE(30), 5, "it takes flushes, and nothing that a flush would not cover");
  return socket;
}

test("what a client wrote is read back, and a flush covers the writes answered before it", async () => {
  using scratch = scratchFolder();
  const path = join(scratch.path, "disk.sock");
  await using disk = await NbdServer.listen(path, 65536);
  const socket = await negotiated(path);
  socket.write(request(write, 0, Buffer.alloc(blockSize, 1)));
  await bytes(socket, 16);
  // Sent at once, so the second write is not answered when the flush arrives.
  const second = request(write, blockSize, Buffer.alloc(blockSize, 2));
  socket.write(Buffer.concat([second, request(flush, 0, 0), request(read, 0, 2 * blockSize)]));
  const answer = await bytes(socket, 48 + 2 * blockSize);
  assert.deepEqual([answer[48], answer[48 + blockSize]], [1, 2]);
  const cut = disk.log.cut(disk.log.length, () => false);
  assert.deepEqual([...cut.keys()], [0]);
  socket.destroy();
});

test("a request that is no multiple of blocks, or past the end, is refused and changes nothing", async () => {
  using scratch = scratchFolder();
  const path = join(scratch.path, "disk.sock");
  await using disk = await NbdServer.listen(path, 65536);
  const socket = await negotiated(path);
  socket.write(request(write, 512, Buffer.alloc(512)));
  assert.equal((await bytes(socket, 16)).readUInt32BE(4), 22);
  socket.write(request(write, 65536, Buffer.alloc(blockSize)));
  assert.equal((await bytes(socket, 16)).readUInt32BE(4), 22);
  assert.equal(disk.log.length, 0);
  socket.destroy();
});
