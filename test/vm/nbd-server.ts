/**
 * A network block device for one client on a unix socket, over a {@link DiskLog} that can be exchanged while nobody uses
 * the disk. Speaks what qemu's client speaks of the protocol (NetworkBlockDevice/nbd, doc/proto.md): fixed newstyle
 * negotiation, simple replies, read, write, flush. A flush covers the writes that had been answered when it arrived.
 */
import { createServer, type Server, type Socket } from "node:net";
import { blockSize, DiskLog } from "./disk-log.ts";

const greeting = Buffer.from("NBDMAGICIHAVEOPT\x00\x03", "latin1");
const optionReply = 0x3e889045565a9n;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const options = { abort: 2, info: 6, go: 7 } as const;
const replies = { acknowledged: 1, information: 3, unsupported: 0x80000001 } as const;
const commands = { read: 0, write: 1, disconnect: 2, flush: 3 } as const;
/** Has flags, takes flushes. */
const exportFlags = 1 | 4;
const invalid = 22;

type Step = (client: Client) => boolean;

export class NbdServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly size: number;
  log = new DiskLog();

  private constructor(server: Server, size: number) {
    this.#server = server;
    this.size = size;
  }

  /** Listens at `path`; `size` is in bytes. */
  static async listen(path: string, size: number): Promise<NbdServer> {
    const server = createServer();
    const disk = new NbdServer(server, size);
    server.on("connection", (socket) => disk.#serve(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    return disk;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    const client = new Client(socket, this);
    socket.on("data", (bytes: Buffer) => client.take(bytes));
    // A machine that was killed has nothing more to say.
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
    socket.write(greeting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** One connection: bytes in, one step for each whole message. Answers to what arrived together leave together. */
class Client {
  readonly #socket: Socket;
  readonly #disk: NbdServer;
  #bytes: Buffer = Buffer.alloc(0);
  #step: Step = (client) => client.#hello();
  #answers: Buffer[] = [];
  /** The log, and its length, when the last answers left. */
  #answered: { readonly log: DiskLog; readonly length: number };

  constructor(socket: Socket, disk: NbdServer) {
    this.#socket = socket;
    this.#disk = disk;
    this.#answered = { log: disk.log, length: 0 };
  }

  take(bytes: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    while (!this.#socket.destroyed && this.#step(this));
    if (this.#answers.length > 0) this.#socket.write(Buffer.concat(this.#answers));
    this.#answers = [];
    const { log } = this.#disk;
    this.#answered = { log, length: log.length };
  }

  /** The next message's bytes, once they are all there. */
  #whole(length: number): Buffer | undefined {
    if (this.#bytes.length < length) return undefined;
    const message = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return message;
  }

  #hello(): boolean {
    if (this.#whole(4) === undefined) return false;
    this.#step = (client) => client.#option();
    return true;
  }

  #option(): boolean {
    if (this.#bytes.length < 16) return false;
    const length = this.#bytes.readUInt32BE(12);
    const message = this.#whole(16 + length);
    if (message === undefined) return false;
    const option = message.readUInt32BE(8);
    const chosen = option === options.go || option === options.info;
    if (chosen) this.#replyToOption(option, replies.information, this.#exportInformation());
    this.#replyToOption(option, chosen || option === options.abort ? replies.acknowledged : replies.unsupported);
    if (option === options.go) this.#step = (client) => client.#request();
    return true;
  }

  #exportInformation(): Buffer {
    const information = Buffer.alloc(12);
    information.writeBigUInt64BE(BigInt(this.#disk.size), 2);
    information.writeUInt16BE(exportFlags, 10);
    return information;
  }

  #replyToOption(option: number, type: number, data: Buffer = Buffer.alloc(0)): void {
    const head = Buffer.alloc(20);
    head.writeBigUInt64BE(optionReply, 0);
    head.writeUInt32BE(option, 8);
    head.writeUInt32BE(type, 12);
    head.writeUInt32BE(data.length, 16);
    this.#answers.push(head, data);
  }

  #request(): boolean {
    if (this.#bytes.length < 28) return false;
    if (this.#bytes.readUInt32BE(0) !== requestMagic) {
      this.#socket.destroy();
      return false;
    }
    const type = this.#bytes.readUInt16BE(6);
    const length = this.#bytes.readUInt32BE(24);
    const message = this.#whole(type === commands.write ? 28 + length : 28);
    if (message === undefined) return false;
    if (type === commands.disconnect) this.#socket.end();
    else this.#carryOut(type, message, length);
    return true;
  }

  #carryOut(type: number, message: Buffer, length: number): void {
    const { log, size } = this.#disk;
    const offset = Number(message.readBigUInt64BE(16));
    const reply = Buffer.alloc(16);
    reply.writeUInt32BE(replyMagic, 0);
    message.copy(reply, 8, 8, 16);
    this.#answers.push(reply);
    const aligned = offset % blockSize === 0 && length % blockSize === 0 && offset + length <= size;
    if (type === commands.flush) log.flush(this.#answered.log === log ? this.#answered.length : 0);
    else if (type === commands.read && aligned) this.#answers.push(log.read(offset, length));
    else if (type === commands.write && aligned) log.write(offset, message.subarray(28));
    else reply.writeUInt32BE(invalid, 4);
  }
}
