/**
 * The guest's disk with the project: its sources as JavaScript (the guest is slow, and stripping types is the slowest
 * part of a start), laid out as the published package is, with the packages that it needs at run time.
 */
import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join } from "node:path";
import { scratchFolder } from "../support/engine.ts";
import { pack } from "./guest-disk.ts";

const project = new URL("../..", import.meta.url).pathname;

/** A change to the guest's copy of a source file: `find` must be in it. */
export type Patch = { readonly file: string; readonly find: string; readonly put: string };

/** Source folder -> where it stands in the guest. */
const folders = { src: "dist", "test/vm": "test/vm", "test/support": "test/support" } as const;

const notNeeded = ["typescript", "@typescript", "@biomejs", "@types", "node", "node-bin-linux-x64", ".bin", ".cache"];

function patched(file: string, patches: readonly Patch[]): string {
  let text = readFileSync(join(project, file), "utf8");
  for (const { find, put } of patches.filter((patch) => patch.file === file)) {
    if (!text.includes(find)) throw new Error(`${file} does not contain: ${find}`);
    text = text.replace(find, put);
  }
  return text;
}

/** Types off, and imports of our own files by their new names; URLs of tasks find theirs themselves. */
function javascript(text: string): string {
  const renamed = stripTypeScriptTypes(text).replaceAll(/((?:from|import)\s*\(?\s*"\.[^"\n]*)\.ts"/g, '$1.js"');
  return renamed.replaceAll(/"((?:\.\.\/)+)src\//g, '"$1dist/');
}

type ProjectOptions = { readonly patches?: readonly Patch[]; readonly tests?: readonly string[] };

/** Makes the disk: the project as it stands, but for `patches`, without its tests but those that are named. */
export async function makeProjectDisk(image: string, { patches = [], tests = [] }: ProjectOptions = {}): Promise<void> {
  using scratch = scratchFolder();
  const root = scratch.path;
  for (const [from, to] of Object.entries(folders))
    for (const name of globSync("**/*.ts", { cwd: join(project, from) })) {
      if (name.endsWith(".test.ts") && !tests.includes(join(from, name))) continue;
      const target = join(root, to, name.replace(/\.ts$/, ".js"));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, javascript(patched(join(from, name), patches)));
    }
  for (const path of ["bin", "package.json", "test/vm/guest/init.sh"])
    cpSync(join(project, path), join(root, path), { recursive: true });
  const packages = join(project, "node_modules");
  cpSync(packages, join(root, "node_modules"), {
    recursive: true,
    filter: (path) => !notNeeded.includes(path.slice(packages.length + 1)),
  });
  await pack(root, image);
}
