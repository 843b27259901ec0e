import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { scratch } from "../archive/tree.fixture.ts";
import { digestOf, hexOf } from "../base/digest.ts";
import { ImageDb, type SourceImage } from "./image-db.ts";

type Listed = { readonly images: readonly SourceImage[]; readonly problems: readonly string[] };

/** Lists an image folder with these files. */
async function list(files: Readonly<Record<string, string>>): Promise<Listed> {
  using root = scratch();
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root.path, name)), { recursive: true });
    writeFileSync(join(root.path, name), content);
  }
  const problems: string[] = [];
  const images = await new ImageDb(root.path).list((problem) => void problems.push(problem));
  return { images, problems };
}

const hex = (letter: string): string => letter.repeat(64);
const content = (letter: string): string => `imagedb/content/sha256/${hex(letter)}`;
const metadata = (letter: string, name: string): string => `imagedb/metadata/sha256/${hex(letter)}/${name}`;

test("parents come first, also in a circle, and one that is gone is no hindrance", async () => {
  const { images } = await list({
    [content("a")]: "",
    [content("b")]: "",
    [content("c")]: "",
    [content("d")]: "",
    [content("e")]: "",
    [metadata("a", "parent")]: `sha256:${hex("c")}`,
    [metadata("c", "parent")]: `sha256:${hex("b")}`,
    [metadata("b", "parent")]: `sha256:${hex("9")}`,
    [metadata("d", "parent")]: `sha256:${hex("e")}`,
    [metadata("e", "parent")]: `sha256:${hex("d")}`,
    "imagedb/content/sha256/.tmp-x": "",
  });
  const order = images.map(({ id }) => id.at(-1));
  assert.deepEqual(order.slice(0, 3), ["b", "c", "a"]);
  assert.deepEqual(order.slice(3).sort(), ["d", "e"]);
});

test("names are tags and digests, times and origin are what dockerd noted", async () => {
  const repositories = {
    app: { "app:1": `sha256:${hex("a")}`, [`app@sha256:${hex("7")}`]: `sha256:${hex("a")}` },
    "localhost:5000/x": { "localhost:5000/x:y": `sha256:${hex("a")}` },
    "B!": { "B!:1": `sha256:${hex("a")}` },
  };
  const { images, problems } = await list({
    [content("a")]: "",
    [metadata("a", "lastUpdated")]: "2026-11-21T12:12:10.168036471Z",
    [metadata("a", "builtLocally")]: "1",
    "repositories.json": JSON.stringify({ Repositories: repositories }),
  });
  const [image] = images;
  assert.deepEqual(image?.references, [
    "docker.io/library/app:1",
    `docker.io/library/app@sha256:${hex("7")}`,
    "localhost:5000/x:y",
  ]);
  assert.deepEqual([image?.lastTagged, image?.local], ["2026-11-21T12:12:10.168036471Z", true]);
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? "", /"B!:1" cannot be kept/);
});

for (const [what, text] of [
  ["no JSON", "{"],
  ["another shape", '{"Repositories": {"app": 5}}'],
] as const)
  test(`a repositories.json that is ${what} costs the names, and says so`, async () => {
    const { images, problems } = await list({ [content("a")]: "", "repositories.json": text });
    assert.deepEqual(
      images.map(({ references }) => references),
      [[]],
    );
    assert.match(problems.join(), /no image has a name/);
  });

test("a config whose digest is not its id is data_loss", async () => {
  using root = scratch();
  const id = digestOf("{}") as SourceImage["id"];
  const path = join(root.path, "imagedb/content/sha256", hexOf(id));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, "{}");
  const images = new ImageDb(root.path);
  assert.equal(await images.config(id), "{}");
  writeFileSync(path, "{} ");
  await assert.rejects(images.config(id), { code: "data_loss", message: /another digest/ });
});
