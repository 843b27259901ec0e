/**
 * Random layer tars over few names, so that layers meet: every kind of entry and every trap of the format (whiteouts of
 * things that are there or not, opaque directories, `.wh.x` beside `x/`, type changes, hard links to files below,
 * parents that are symlinks, implied parents, duplicates).
 */
import fc from "fast-check";
import type { TestEntry } from "./store.fixture.ts";

const name = fc.constantFrom("x", "y", "z");
const directory = fc.constantFrom("a", "b", "a/c", "a/c/d", "ln", "ln/c");
const path = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(directory, name).map(([parent, child]) => `${parent}/${child}`) },
  { weight: 1, arbitrary: name },
  { weight: 1, arbitrary: directory },
);
const attributes = fc.record({
  mode: fc.constantFrom(0o755, 0o700, 0o644, 0o4755, 0o1777, 0o2775, 0o400),
  uid: fc.constantFrom(0, 0, 1000, 65534),
  gid: fc.constantFrom(0, 0, 1000),
  mtime: fc.integer({ min: 0, max: 1_700_000_000 }),
});
const xattrs = fc.constantFrom(
  undefined,
  undefined,
  undefined,
  new Map([["user.note", Buffer.from("kept")]]),
  new Map([["trusted.overlay.opaque", Buffer.from("y")]]),
);

const described = (type: TestEntry["type"] & string): fc.Arbitrary<TestEntry> =>
  fc.tuple(path, attributes, xattrs).map(([at, rest, attribute]) => ({
    path: at,
    type,
    ...rest,
    ...(attribute === undefined ? {} : { xattrs: attribute }),
  }));

const file = fc
  .tuple(described("file"), fc.string({ maxLength: 20 }))
  .map(([entry, content]): TestEntry => ({ ...entry, content }));
const symlink = fc
  .tuple(path, attributes, fc.constantFrom("a", "b", "a/c", "../a", "/b", "nowhere", "x"))
  .map(([at, rest, link]): TestEntry => ({ path: at, type: "symlink", ...rest, mode: 0o777, link }));
/** A directory that is reached through a link: `ln` -> `a` or `b`. */
const directoryLink = fc
  .tuple(attributes, fc.constantFrom("a", "b", "/a"))
  .map(([rest, link]): TestEntry => ({ path: "ln", type: "symlink", ...rest, mode: 0o777, link }));
const link = fc.tuple(path, path).map(([at, target]): TestEntry => ({ path: at, type: "link", link: target }));
const device = fc
  .tuple(path, attributes)
  .map(([at, rest]): TestEntry => ({ path: at, type: "char", ...rest, major: 1, minor: 3 }));
const fifo = fc.tuple(path, attributes).map(([at, rest]): TestEntry => ({ path: at, type: "fifo", ...rest }));
const whiteout = path.map((at): TestEntry => ({ path: at.replace(/([^/]+)$/, ".wh.$1"), type: "file" }));
const opaque = directory.map((at): TestEntry => ({ path: `${at}/.wh..wh..opq` }));
const root = attributes.map((rest): TestEntry => ({ path: "./", type: "directory", ...rest, mode: rest.mode | 0o500 }));

const entry = fc.oneof(
  { weight: 6, arbitrary: file },
  { weight: 4, arbitrary: described("directory") },
  { weight: 1, arbitrary: symlink },
  { weight: 1, arbitrary: directoryLink },
  { weight: 2, arbitrary: link },
  { weight: 1, arbitrary: device },
  { weight: 1, arbitrary: fifo },
  { weight: 3, arbitrary: whiteout },
  { weight: 1, arbitrary: opaque },
  { weight: 1, arbitrary: root },
);

type Draft = { readonly entry: TestEntry; readonly pick: number };

const drafts = fc.array(fc.record({ entry, pick: fc.nat(19) }), { minLength: 1, maxLength: 12 });

/** Lets most hard links name a file that some layer brought before, so that most tars can be applied. */
function aimLinks(layers: readonly (readonly Draft[])[]): TestEntry[][] {
  const files: string[] = [];
  return layers.map((layer) =>
    layer.flatMap(({ entry: drafted, pick }) => {
      if (drafted.type === "file" && !drafted.path.includes(".wh.")) files.push(drafted.path);
      const aimed = files[pick % Math.max(files.length, 1)];
      if (drafted.type !== "link" || pick === 0) return [drafted];
      return aimed === undefined ? [] : [{ ...drafted, link: aimed }];
    }),
  );
}

/** The layers of one image, lowest first. */
export const randomChain: fc.Arbitrary<TestEntry[][]> = fc.array(drafts, { minLength: 1, maxLength: 5 }).map(aimLinks);
