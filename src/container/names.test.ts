import assert from "node:assert/strict";
import { test } from "node:test";
import { isError } from "../base/errors.ts";
import { NameTable, parseContainerName, resolveContainerId } from "./names.ts";
import { randomName } from "./random-name.ts";

const idOf = (start: string): string => start.padEnd(64, "0");

test("a container name loses its slash and keeps Docker's grammar", () => {
  assert.equal(parseContainerName("/web-1.x_y"), "web-1.x_y");
  for (const wrong of ["", "a", "-a", "_x", "a b", "a/b", "//ab", "é1", `a\0b`])
    assert.throws(
      () => parseContainerName(wrong),
      (error: unknown) => isError(error, "invalid_argument") && error.message.startsWith("Invalid container name ("),
      JSON.stringify(wrong),
    );
});

test("a container name has at most 255 characters", () => {
  assert.equal(parseContainerName("x".repeat(255)).length, 255);
  assert.throws(() => parseContainerName("x".repeat(256)), { code: "invalid_argument", message: /more than 255/ });
});

test("a name has one holder until it is released by that holder", () => {
  const names = new NameTable();
  names.take("web", "one");
  names.take("web", "one");
  assert.throws(() => names.take("web", "two"), {
    code: "conflict",
    message:
      'Conflict. The container name "/web" is already in use by container "one". ' +
      "You have to remove (or rename) that container to be able to reuse that name.",
  });
  names.release("web", "two");
  assert.equal(names.holder("web"), "one");
  names.release("web", "one");
  names.take("web", "two");
});

test("random names are valid, and each is taken by one container only", () => {
  const names = new NameTable();
  const given = Array.from({ length: 200 }, (_, index) => names.takeRandom(idOf(index.toString(16))));
  for (const name of given) assert.equal(parseContainerName(name), name);
  assert.equal(new Set(given).size, 200);
  assert.match(randomName(), /^[a-z]+_[a-z]+$/);
});

test("a container is found by id, by name before prefix, and by a prefix that only one has", () => {
  const names = new NameTable();
  const [one, two, three] = [idOf("abc1"), idOf("abc2"), idOf("d")];
  names.take("abc1", two);
  const find = (text: string): string => resolveContainerId(text, [one, two, three], names);
  assert.equal(find(one), one);
  assert.equal(find("abc1"), two);
  assert.equal(find("/abc1"), two);
  assert.equal(find("abc2"), two);
  assert.equal(find("d"), three);
  assert.throws(() => find("abc"), {
    code: "invalid_argument",
    message: "Multiple IDs found with provided prefix: abc",
  });
  for (const unknown of ["e", "", "nope", "%"])
    assert.throws(() => find(unknown), { code: "not_found", message: `No such container: ${unknown}` });
});
