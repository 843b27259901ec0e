/**
 * Docker's framing of stdout and stderr in one stream: an eight-byte header (stream, three zeros, length as a big-endian
 * number) before each piece. Terminals are sent as they are.
 */
export type OutputStream = "stdin" | "stdout" | "stderr";

const streamNumber = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** One frame around `data`. */
export function frame(stream: OutputStream, data: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(8 + data.length);
  framed.writeUInt32BE(streamNumber[stream] << 24, 0);
  framed.writeUInt32BE(data.length, 4);
  framed.set(data, 8);
  return framed;
}

/** Media types of attach, exec and logs: since 1.42 the answer says whether it is framed. */
export function streamType(tty: boolean, multiplexedKnown: boolean): string {
  return !tty && multiplexedKnown ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream";
}
