import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, type ImageId, parseImageId } from "../base/digest.ts";
import { errorMessage } from "../base/errors.ts";
import { canonicalOf, familiarName } from "../base/reference.ts";
import { planRemoval } from "./removal-plan.ts";

/** A small world: images by a letter, with tags and a parent. */
type World = Readonly<Record<string, { readonly tags?: readonly string[]; readonly parent?: string }>>;
type Users = Readonly<Record<string, readonly { readonly id: string; readonly running: boolean }[]>>;

const idOf = (letter: string): ImageId => parseImageId(digestOf(letter));
const short = (letter: string): string => idOf(letter).slice(7, 19);
const digest = digestOf("manifest");
const container = "c0ffee".repeat(10);

function plan(
  world: World,
  typed: string,
  { force = false, prune = true, users = {} as Users } = {},
): readonly string[] {
  const letters = Object.keys(world);
  const letterOf = (id: ImageId): string => letters.find((letter) => idOf(letter) === id) ?? "?";
  const target = letters.find(
    (letter) => idOf(letter) === typed || short(letter) === typed || world[letter]?.tags?.includes(typed) === true,
  );
  assert.ok(target !== undefined, `nothing is called ${typed}`);
  const steps = planRemoval(
    {
      references: (id) => (world[letterOf(id)]?.tags ?? []).map(canonicalOf),
      children: (id) => letters.filter((letter) => world[letter]?.parent === letterOf(id)).map(idOf),
      parent: (id) => {
        const parent = world[letterOf(id)]?.parent;
        return parent === undefined ? undefined : idOf(parent);
      },
    },
    { typed, id: idOf(target) },
    { force, prune, usedBy: (id) => users[letterOf(id)] ?? [] },
  );
  return steps.map((step) => (step.kind === "untag" ? `-${familiarName(step.reference)}` : letterOf(step.id)));
}

const running = [{ id: container, running: true }];
const stopped = [{ id: container, running: false }];

test("what rmi does", () => {
  const table: readonly (readonly [string, World, string, Parameters<typeof plan>[2], readonly string[]])[] = [
    ["the only tag takes the image with it", { a: { tags: ["x:1"] } }, "x:1", {}, ["-x:1", "a"]],
    ["one of two tags goes alone", { a: { tags: ["x:1", "y:1"] } }, "x:1", {}, ["-x:1"]],
    [
      "one of two tags goes even while it runs",
      { a: { tags: ["x:1", "y:1"] } },
      "x:1",
      { users: { a: running } },
      ["-x:1"],
    ],
    ["an id takes its only tag", { a: { tags: ["x:1"] } }, short("a"), {}, ["-x:1", "a"]],
    [
      "an id takes a tag and its digest",
      { a: { tags: ["x:1", `x@${digest}`] } },
      idOf("a"),
      {},
      ["-x:1", `-x@${digest}`, "a"],
    ],
    [
      "a tag takes its repository's digests",
      { a: { tags: ["x:1", `x@${digest}`] } },
      "x:1",
      {},
      ["-x:1", `-x@${digest}`, "a"],
    ],
    ["digests stay with another tag", { a: { tags: ["x:1", "x:2", `x@${digest}`] } }, "x:1", {}, ["-x:1"]],
    [
      "force takes every tag of an id",
      { a: { tags: ["x:1", "y:1"] } },
      short("a"),
      { force: true },
      ["-x:1", "-y:1", "a"],
    ],
    [
      "force overrides a stopped container",
      { a: { tags: ["x:1"] } },
      "x:1",
      { force: true, users: { a: stopped } },
      ["-x:1", "a"],
    ],
    ["force only untags what runs", { a: { tags: ["x:1"] } }, "x:1", { force: true, users: { a: running } }, ["-x:1"]],
    [
      "parents without tags go",
      { a: {}, b: { parent: "a" }, c: { parent: "b", tags: ["x:1"] } },
      "x:1",
      {},
      ["-x:1", "c", "b", "a"],
    ],
    [
      "parents stay without prune",
      { a: {}, b: { parent: "a", tags: ["x:1"] } },
      "x:1",
      { prune: false },
      ["-x:1", "b"],
    ],
    ["a tagged parent stays", { a: { tags: ["p:1"] }, b: { parent: "a", tags: ["x:1"] } }, "x:1", {}, ["-x:1", "b"]],
    [
      "a parent of another stays",
      { a: {}, b: { parent: "a", tags: ["x:1"] }, c: { parent: "a" } },
      "x:1",
      {},
      ["-x:1", "b"],
    ],
    [
      "a used parent stays",
      { a: {}, b: { parent: "a", tags: ["x:1"] } },
      "x:1",
      { users: { a: stopped } },
      ["-x:1", "b"],
    ],
    ["a tag of an image with children goes alone", { a: { tags: ["x:1"] }, b: { parent: "a" } }, "x:1", {}, ["-x:1"]],
  ];
  for (const [name, world, typed, options, expected] of table)
    assert.deepEqual(plan(world, typed, options), expected, name);
});

test("what rmi refuses, in Docker's words", () => {
  const table: readonly (readonly [World, string, Parameters<typeof plan>[2], string])[] = [
    [
      { a: { tags: ["x:1"] } },
      "x:1",
      { users: { a: stopped } },
      `conflict: unable to remove repository reference "x:1" (must force) - container c0ffeec0ffee is using its referenced image ${short("a")}`,
    ],
    [
      { a: { tags: ["x:1"] } },
      short("a"),
      { users: { a: stopped } },
      `conflict: unable to delete ${short("a")} (must be forced) - image is being used by stopped container c0ffeec0ffee`,
    ],
    [
      { a: { tags: ["x:1"] } },
      short("a"),
      { force: true, users: { a: running } },
      `conflict: unable to delete ${short("a")} (cannot be forced) - image is being used by running container c0ffeec0ffee`,
    ],
    [
      { a: {}, b: { parent: "a" } },
      idOf("a"),
      { force: true },
      `conflict: unable to delete ${short("a")} (cannot be forced) - image has dependent child images`,
    ],
    [
      { a: { tags: ["x:1", "y:1"] } },
      idOf("a"),
      {},
      `conflict: unable to delete ${short("a")} (must be forced) - image is referenced in multiple repositories`,
    ],
  ];
  for (const [world, typed, options, message] of table)
    assert.throws(
      () => plan(world, typed, options),
      (error) => errorMessage(error) === message,
      message,
    );
});
