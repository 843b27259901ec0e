/** Archives in the form that the kernel takes as its first root (cpio "newc", Documentation/driver-api/early-userspace). */

export type CpioMember = { readonly name: string; readonly mode: number; readonly content?: Uint8Array };

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

function member({ name, mode, content = new Uint8Array() }: CpioMember, inode: number): Buffer {
  const bytes = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, bytes.length, 0];
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return Buffer.concat([head, bytes, padding(head.length + bytes.length), content, padding(content.length)]);
}

/** Directories stand before what is in them. Modes carry the file type. */
export function cpioOf(members: readonly CpioMember[]): Buffer {
  const all = [...members, { name: "TRAILER!!!", mode: 0 }];
  return Buffer.concat(all.map((one, index) => member(one, index + 1)));
}
