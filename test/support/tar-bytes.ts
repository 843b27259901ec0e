/** Tars made by hand, so that they can be wrong in ways no program writes. */

export type Member = {
  readonly name: string;
  readonly content?: string | Uint8Array;
  readonly mode?: number;
  /** "0" file, "1" hard link, "2" symlink, "3" character device, "5" directory, "x" and "g" pax. */
  readonly type?: string;
  readonly target?: string;
  readonly device?: readonly [number, number];
  /** What the header claims; the content's length otherwise. */
  readonly size?: number;
  /** Written over the header at an offset before its checksum is made. */
  readonly patch?: readonly [number, string];
  readonly checksum?: string;
};

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, "0")}\0`;

function header(member: Member, size: number): Buffer {
  const { name, mode = 0o644, type = "0", target = "", device = [0, 0] } = member;
  const block = Buffer.alloc(512);
  const put = (offset: number, text: string): void => void block.write(text, offset, "latin1");
  put(0, name.slice(0, 100));
  put(100, octal(mode, 8));
  put(108, octal(0, 8));
  put(116, octal(0, 8));
  put(124, octal(size, 12));
  put(136, octal(0, 12));
  put(148, " ".repeat(8));
  put(156, type);
  put(157, target.slice(0, 100));
  put(257, "ustar\x0000");
  put(329, octal(device[0], 8));
  put(337, octal(device[1], 8));
  if (member.patch !== undefined) put(...member.patch);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, member.checksum ?? `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}

export function tarMember(member: Member): Buffer {
  const content = Buffer.from(member.content ?? "");
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return Buffer.concat([header(member, member.size ?? content.length), content, padding]);
}

/** A pax record: `length key=value\n`, the length counting itself. */
export function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

export function tarOf(...members: readonly Member[]): Buffer {
  return Buffer.concat([...members.map(tarMember), Buffer.alloc(1024)]);
}
