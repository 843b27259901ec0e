/**
 * The words of mount options (mount(8)): which are flags of the kernel's calls, which only `/etc/fstab` knows, and
 * which belong to the filesystem.
 */
import { EngineError } from "../base/errors.ts";
import { MOUNT_ATTR, MS } from "./mount-calls.ts";

type Flag = {
  readonly set?: number;
  readonly clear?: number;
  readonly attribute?: number;
  readonly clearAttribute?: number;
};

const flags: Readonly<Record<string, Flag>> = {
  ro: { set: MS.RDONLY, attribute: MOUNT_ATTR.RDONLY },
  rw: { clear: MS.RDONLY, clearAttribute: MOUNT_ATTR.RDONLY },
  nosuid: { set: MS.NOSUID, attribute: MOUNT_ATTR.NOSUID },
  suid: { clear: MS.NOSUID, clearAttribute: MOUNT_ATTR.NOSUID },
  nodev: { set: MS.NODEV, attribute: MOUNT_ATTR.NODEV },
  dev: { clear: MS.NODEV, clearAttribute: MOUNT_ATTR.NODEV },
  noexec: { set: MS.NOEXEC, attribute: MOUNT_ATTR.NOEXEC },
  exec: { clear: MS.NOEXEC, clearAttribute: MOUNT_ATTR.NOEXEC },
  noatime: { set: MS.NOATIME, attribute: MOUNT_ATTR.NOATIME },
  atime: { clear: MS.NOATIME, clearAttribute: MOUNT_ATTR.NOATIME },
  nodiratime: { set: MS.NODIRATIME, attribute: MOUNT_ATTR.NODIRATIME },
  diratime: { clear: MS.NODIRATIME, clearAttribute: MOUNT_ATTR.NODIRATIME },
  strictatime: { set: MS.STRICTATIME, attribute: MOUNT_ATTR.STRICTATIME },
  nosymfollow: { set: MS.NOSYMFOLLOW, attribute: MOUNT_ATTR.NOSYMFOLLOW },
  relatime: { set: MS.RELATIME },
  sync: { set: MS.SYNCHRONOUS },
  async: { clear: MS.SYNCHRONOUS },
  dirsync: { set: MS.DIRSYNC },
  mand: { set: MS.MANDLOCK },
  lazytime: { set: MS.LAZYTIME },
  silent: { set: MS.SILENT },
};

/** Words for programs that read `/etc/fstab`; the kernel would refuse them. */
const ignored = /^(defaults|auto|noauto|nofail|_netdev|user|nouser|users|owner|group|comment=.*|[xX]-.*)$/;
const elsewhere = /^(bind|rbind|move|remount|loop(=.*)?|(r?(private|shared|slave|unbindable)))$/;

export type MountOptions = {
  /** For mount(2). */
  readonly flags: number;
  /** For fsmount: those flags that belong to the mount rather than to the filesystem. */
  readonly attributes: number;
  /** What the filesystem itself reads, in order. */
  readonly data: readonly string[];
};

/** Throws invalid_argument for words that ask for another kind of mount. */
export function parseMountOptions(options: readonly string[]): MountOptions {
  let set = 0;
  let attributes = 0;
  const data: string[] = [];
  for (const option of options) {
    const flag = Object.hasOwn(flags, option) ? flags[option] : undefined;
    if (flag !== undefined) {
      set = (set | (flag.set ?? 0)) & ~(flag.clear ?? 0);
      attributes = (attributes | (flag.attribute ?? 0)) & ~(flag.clearAttribute ?? 0);
    } else if (elsewhere.test(option))
      throw new EngineError("invalid_argument", `the mount option "${option}" cannot be used here`);
    else if (option !== "" && !ignored.test(option)) data.push(option);
  }
  return { flags: set, attributes, data };
}

/** Words of a mount's flags as mountinfo shows them, back as flags of mount(2). */
export function flagsOfWords(words: readonly string[]): number {
  return words.reduce((all, word) => all | ((Object.hasOwn(flags, word) ? flags[word]?.set : 0) ?? 0), 0);
}

/** What mount(2) would be given for a comma list, `bind` and the like among its words: for messages. */
export function mountFlagsOf(list: string): { readonly flags: number; readonly data: string } {
  const words = list.split(",");
  const kinds = words.filter((word) => elsewhere.test(word));
  const { flags: plain, data } = parseMountOptions(words.filter((word) => !elsewhere.test(word)));
  const bind = kinds.includes("bind") || kinds.includes("rbind") ? MS.BIND : 0;
  const all = plain | bind | (kinds.includes("rbind") ? MS.REC : 0);
  return { flags: all, data: data.join(",") };
}
