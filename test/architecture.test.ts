/**
 * The import rule as data: which folder of `src/` may import which, no cycles between files, no barrels, no long files.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { glob } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";

const root = new URL("../src/", import.meta.url).pathname;

/** Folder -> folders it may import besides itself. `types` are type-only imports. */
const rule: Readonly<Record<string, { readonly values: readonly string[]; readonly types?: readonly string[] }>> = {
  base: { values: [] },
  host: { values: ["base"] },
  metadata: { values: ["base", "host"] },
  archive: { values: ["base", "host"] },
  content: { values: ["base", "host", "metadata"] },
  "storage-driver": { values: ["base", "host", "archive"] },
  "volume-driver": { values: ["base", "host", "plugin", "archive"] },
  plugin: { values: ["base", "host"] },
  layer: { values: ["base", "host", "storage-driver", "archive", "content", "metadata"] },
  volume: { values: ["base", "host", "volume-driver", "archive", "metadata"] },
  network: { values: ["base", "host", "metadata"] },
  image: { values: ["base", "host", "layer", "content", "metadata"] },
  transfer: { values: ["base", "host", "image", "layer", "content", "archive"] },
  runtime: { values: ["base", "host"] },
  container: { values: ["base", "host", "image", "layer", "volume", "runtime", "archive", "metadata"] },
  build: { values: ["base", "host", "container", "image", "layer", "transfer", "archive"] },
  check: {
    values: [
      "base",
      "host",
      "metadata",
      "archive",
      "storage-driver",
      "layer",
      "volume",
      "network",
      "image",
      "container",
    ],
  },
  adopt: {
    values: [
      "base",
      "host",
      "metadata",
      "archive",
      "storage-driver",
      "volume-driver",
      "layer",
      "volume",
      "network",
      "image",
      "container",
    ],
  },
  migrate: {
    values: [
      "base",
      "host",
      "metadata",
      "archive",
      "storage-driver",
      "layer",
      "volume",
      "network",
      "image",
      "container",
    ],
  },
  serve: {
    values: ["base", "host"],
    types: ["container", "image", "layer", "volume", "network", "transfer", "build", "runtime"],
  },
  client: { values: ["base"] },
  cli: { values: ["base", "host", "client", "serve", "check", "adopt", "migrate"], types: [] },
};

type Import = { readonly from: string; readonly to: string; readonly typeOnly: boolean };

const files: string[] = [];
for await (const file of glob("**/*.ts", { cwd: root })) files.push(file);
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));

const statement = /(?:^|\n)(import|export)\s+(type\s+)?(?:[^"';]*?\sfrom\s+)?"(\.[^"]+)"/g;

function importsOf(file: string): Import[] {
  const found: Import[] = [];
  for (const match of (sources.get(file) ?? "").matchAll(statement)) {
    const to = normalize(join(dirname(file), match[3] ?? ""));
    found.push({ from: file, to, typeOnly: match[2] !== undefined });
  }
  return found;
}

const isTest = (file: string): boolean => file.endsWith(".test.ts") || file.endsWith(".fixture.ts");
const folderOf = (file: string): string => (file.includes("/") ? (file.split("/")[0] ?? "") : "");

test("a folder imports only what the rule allows", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const folder = folderOf(file);
    if (folder === "" || isTest(file)) continue;
    const allowed = rule[folder];
    assert.ok(allowed !== undefined, `the folder src/${folder} has no line in the import rule`);
    for (const { to, typeOnly } of importsOf(file)) {
      const target = folderOf(to);
      if (target === folder || allowed.values.includes(target)) continue;
      if (typeOnly && allowed.types?.includes(target)) continue;
      if (folder === "cli" && (to === "engine.ts" || to === "volume-engine.ts")) continue;
      wrong.push(`${file} imports ${to}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("drivers do not import one another, and only the list knows them", () => {
  const wrong: string[] = [];
  for (const contract of ["storage-driver", "volume-driver"]) {
    for (const file of files.filter((name) => name.startsWith(`${contract}/`) && !isTest(name))) {
      const own = file.split("/").length > 2 ? file.split("/")[1] : undefined;
      for (const { to } of importsOf(file)) {
        const parts = to.split("/");
        if (parts[0] !== contract || parts.length < 3) continue;
        if (parts[1] !== own && file !== `${contract}/list.ts`) wrong.push(`${file} imports ${to}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test("no file imports itself by way of others", () => {
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
      return;
    }
    state.set(file, "open");
    for (const { to, typeOnly } of importsOf(file)) if (!typeOnly && sources.has(to)) visit(to, [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
  assert.deepEqual(cycles, []);
});

test("files stay short", () => {
  const long = files.filter((file) => (sources.get(file) ?? "").split("\n").length > (isTest(file) ? 601 : 401));
  assert.deepEqual(long, []);
});

test("every module opens with what it is", () => {
  const bare = files.filter((file) => !isTest(file) && !(sources.get(file) ?? "").startsWith("/**"));
  assert.deepEqual(bare, []);
});

test("no catch-all file names, no default exports", () => {
  const names = files.filter((file) => /(^|\/)(utils|helpers|types|common)\.ts$/.test(file));
  const defaults = files.filter((file) => /\nexport default /.test(sources.get(file) ?? ""));
  assert.deepEqual([...names, ...defaults], []);
});

test("the folder map of ARCHITECTURE.md is the tree", () => {
  const text = readFileSync(new URL("../ARCHITECTURE.md", import.meta.url), "utf8");
  const mapped = new Set([...text.matchAll(/^\| `([a-z-]+)\/`/gm)].map((match) => match[1]));
  const folders = new Set(files.map(folderOf).filter((folder) => folder !== ""));
  assert.deepEqual([...folders].sort(), [...mapped].sort());
});

test("the error codes of docs/errors.md are those of the table", async () => {
  const { httpStatus } = await import("../src/base/errors.ts");
  const text = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");
  const documented = Object.fromEntries(
    [...text.matchAll(/^\| `([a-z_]+)` \| (\d+) \|/gm)].map((m) => [m[1], Number(m[2])]),
  );
  assert.deepEqual(documented, { ...httpStatus });
});
