/**
 * What applying a layer means, in memory and by definition, as the judge of applyLayer: first every whiteout of the tar
 * takes from the tree below, then every entry is put in, in order. No descriptor, no streaming, no bookkeeping.
 */
import { createHash } from "node:crypto";
import type { RawEntry } from "./tree.fixture.ts";

type Inode = {
  type: "file" | "symlink" | "fifo" | "char";
  meta: string;
  content: string;
  /** Its first name in the tree, when it is described. */
};
type Dir = {
  type: "directory";
  meta: string;
  children: Map<string, Node>;
  xattrs: Map<string, string>;
  time: number | undefined;
};
type Node = Inode | Dir;

export class ModelError extends Error {}

const newDir = (): Dir => ({
  type: "directory",
  meta: "40755 0:0",
  children: new Map(),
  xattrs: new Map(),
  time: undefined,
});

const modeOf = (type: string, entry: RawEntry): string =>
  `${type}${((entry.mode ?? 0o644) & 0o7777).toString(8).padStart(4, "0")}`.replace(/^0+/, "");

export class Model {
  readonly root = newDir();

  apply(entries: readonly RawEntry[]): void {
    for (const entry of entries) this.#hide(split(entry));
    for (const entry of entries) {
      const parts = split(entry);
      if (!(parts.at(-1) ?? "").startsWith(".wh.")) this.#put(entry, parts);
    }
  }

  #hide(parts: readonly string[]): void {
    const name = parts.at(-1) ?? "";
    if (!name.startsWith(".wh.")) return;
    let at: Node | undefined = this.root;
    for (const part of parts.slice(0, -1)) at = at?.type === "directory" ? at.children.get(part) : undefined;
    if (at?.type !== "directory") return;
    if (name === ".wh..wh..opq") at.children.clear();
    else at.children.delete(name.slice(4));
  }

  #put(entry: RawEntry, parts: readonly string[]): void {
    const name = parts.at(-1);
    if (name === undefined) {
      this.#describe(this.root, entry);
      return;
    }
    const parent = this.#parent(parts.slice(0, -1));
    const before = parent.children.get(name);
    if (entry.type === "1") {
      const target = this.#find(split({ path: entry.link ?? "" }));
      if (target === undefined || target.type === "directory") throw new ModelError("no target");
      if (target === before) return;
      // A target inside the directory that gives way is gone before it can be linked.
      if (
        before?.type === "directory" &&
        contains(before, target) &&
        `${entry.link}/`.startsWith(`${parts.join("/")}/`)
      )
        throw new ModelError("replaces its own target");
      parent.children.set(name, target);
      return;
    }
    if (entry.type === "5") {
      const directory = before?.type === "directory" ? before : newDir();
      parent.children.set(name, directory);
      this.#describe(directory, entry);
    } else parent.children.set(name, inode(entry));
  }

  #describe(directory: Dir, entry: RawEntry): void {
    directory.meta = `${modeOf("4", entry)} ${entry.uid ?? 0}:${entry.gid ?? 0}`;
    directory.time = entry.mtime ?? 1_600_000_000;
    for (const [key, value] of Object.entries(entry.pax ?? {}))
      directory.xattrs.set(key.slice("SCHILY.xattr.".length), Buffer.from(value, "latin1").toString("hex"));
  }

  #parent(parts: readonly string[]): Dir {
    let at = this.root;
    for (const part of parts) {
      const next = at.children.get(part);
      const directory = next?.type === "directory" ? next : newDir();
      at.children.set(part, directory);
      at = directory;
    }
    return at;
  }

  #find(parts: readonly string[]): Node | undefined {
    let at: Node | undefined = this.root;
    for (const part of parts) at = at?.type === "directory" ? at.children.get(part) : undefined;
    return at;
  }

  /** As describeTree without times of directories. */
  describe(): Record<string, string> {
    const found: Record<string, string> = {};
    const first = new Map<Inode, string>();
    const visit = (node: Node, path: string): void => {
      if (node.type !== "directory") {
        const known = first.get(node);
        if (known === undefined) first.set(node, path);
        const [base, xattrs = ""] = node.meta.split("|");
        found[path] = [base, known === undefined ? "" : `= ${known}`, xattrs].filter((part) => part !== "").join(" ");
        return;
      }
      const xattrs = [...node.xattrs].sort().map(([key, value]) => `${key}=${value}`);
      found[path] = [node.meta, ...xattrs].join(" ");
      for (const name of [...node.children.keys()].sort()) {
        const child = node.children.get(name);
        if (child !== undefined) visit(child, `${path}/${name}`);
      }
    };
    visit(this.root, "");
    return found;
  }

  /** Directories that the latest tar to name them gave a time. */
  forgetTimes(): void {
    const visit = (node: Node): void => {
      if (node.type !== "directory") return;
      node.time = undefined;
      for (const child of node.children.values()) visit(child);
    };
    visit(this.root);
  }

  times(): Record<string, number> {
    const found: Record<string, number> = {};
    const visit = (node: Node, path: string): void => {
      if (node.type !== "directory") return;
      if (node.time !== undefined) found[path] = node.time;
      for (const [name, child] of node.children) visit(child, `${path}/${name}`);
    };
    visit(this.root, "");
    return found;
  }
}

const split = (entry: RawEntry): string[] =>
  (entry.path ?? "").split("/").filter((part) => part !== "" && part !== ".");

function contains(directory: Dir, target: Node): boolean {
  for (const child of directory.children.values())
    if (child === target || (child.type === "directory" && contains(child, target))) return true;
  return false;
}

function inode(entry: RawEntry): Inode {
  const content = String(entry.content ?? "");
  const types = { "0": "file", "2": "symlink", "6": "fifo", "3": "char" } as const;
  const type = types[(entry.type ?? "0") as keyof typeof types];
  const mode = { file: modeOf("10", entry), symlink: "120777", fifo: modeOf("1", entry), char: modeOf("2", entry) }[
    type
  ];
  const sha = createHash("sha256").update(content, "latin1").digest("hex").slice(0, 12);
  const size = { file: content.length, symlink: (entry.link ?? "").length, fifo: 0, char: 0 }[type];
  const rdev = (entry.major ?? 0) * 256 + (entry.minor ?? 0);
  const parts = [
    `${mode} ${entry.uid ?? 0}:${entry.gid ?? 0} mtime=${BigInt(entry.mtime ?? 1_600_000_000) * 1_000_000_000n} size=${size}`,
    type === "file" ? `sha=${sha}` : "",
    type === "symlink" ? `-> ${entry.link}` : "",
    type === "char" ? `rdev=${rdev}` : "",
  ];
  const xattrs = Object.entries(type === "file" ? (entry.pax ?? {}) : {})
    .map(([key, value]) => `${key.slice("SCHILY.xattr.".length)}=${Buffer.from(value, "latin1").toString("hex")}`)
    .sort();
  return { type, content, meta: `${parts.filter((part) => part !== "").join(" ")}|${xattrs.join(" ")}` };
}
