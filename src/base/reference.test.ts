import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isError } from "./errors.ts";
import { canonicalName, canonicalOf, familiarName, isTag, parseReference, withDefaultTag } from "./reference.ts";

const hex = "7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa";
const digest = `sha256:${hex}`;

/** [typed, canonical, familiar], from distribution/reference's own tables. */
const accepted: readonly (readonly [string, string, string])[] = [
  ["busybox", "docker.io/library/busybox", "busybox"],
  ["busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"],
  ["library/busybox", "docker.io/library/busybox", "busybox"],
  ["docker.io/library/busybox", "docker.io/library/busybox", "busybox"],
  ["docker.io/busybox", "docker.io/library/busybox", "busybox"],
  ["index.docker.io/busybox", "docker.io/library/busybox", "busybox"],
  ["index.docker.io/library/busybox:2", "docker.io/library/busybox:2", "busybox:2"],
  ["acme/app", "docker.io/acme/app", "acme/app"],
  ["docker.io/library/foo/bar", "docker.io/library/foo/bar", "library/foo/bar"],
  ["localhost/app", "localhost/app", "localhost/app"],
  ["localhost:5000/app:t", "localhost:5000/app:t", "localhost:5000/app:t"],
  ["localhost/library/app", "localhost/library/app", "localhost/library/app"],
  ["test.com:8080/repo:tag", "test.com:8080/repo:tag", "test.com:8080/repo:tag"],
  ["127.0.0.1:8000/acme/x", "127.0.0.1:8000/acme/x", "127.0.0.1:8000/acme/x"],
  ["[fc00::1]:5000/repo", "[fc00::1]:5000/repo", "[fc00::1]:5000/repo"],
  ["Uppercase/lower", "Uppercase/lower", "Uppercase/lower"],
  ["docker/docker", "docker.io/docker/docker", "docker/docker"],
  ["xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"],
  ["foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"],
  ["foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080", "foo/foo_bar.com:8080"],
  ["a__b/c---d", "docker.io/a__b/c---d", "a__b/c---d"],
  [`busybox@${digest}`, `docker.io/library/busybox@${digest}`, `busybox@${digest}`],
  [`r.io/a:b@${digest}`, `r.io/a:b@${digest}`, `r.io/a:b@${digest}`],
  ["sha256:abc", "docker.io/library/sha256:abc", "sha256:abc"],
  [`x:${"a".repeat(128)}`, `docker.io/library/x:${"a".repeat(128)}`, `x:${"a".repeat(128)}`],
];

test("familiar and canonical references name the same thing", () => {
  for (const [typed, canonical, familiar] of accepted) {
    const reference = parseReference(typed);
    assert.equal(canonicalName(reference), canonical, typed);
    assert.equal(familiarName(reference), familiar, typed);
    assert.deepEqual(parseReference(canonical), reference, typed);
    assert.deepEqual(parseReference(familiar), reference, typed);
  }
});

const refused: readonly (readonly [string, RegExp])[] = [
  ["", /^invalid reference format$/],
  [":justtag", /^invalid reference format$/],
  [`@${digest}`, /^invalid reference format$/],
  ["repo@sha256:ffffffff", /^invalid reference format$/],
  [`repo@sha256:${"f".repeat(34)}`, /invalid checksum digest length/],
  [`validname@invaliddigest:${"f".repeat(128)}`, /unsupported digest algorithm/],
  ["Busybox", /repository name \(Busybox\) must be lowercase/],
  ["docker.io/Acme/app", /repository name \(Acme\/app\) must be lowercase/],
  ["Uppercase:tag", /must be lowercase/],
  ["a//b", /^invalid reference format$/],
  ["a/", /^invalid reference format$/],
  ["/a", /^invalid reference format$/],
  ["https://github.com/docker/docker", /^invalid reference format$/],
  ["-busybox", /^invalid reference format$/],
  ["busybox-", /^invalid reference format$/],
  ["a___b", /^invalid reference format$/],
  ["a..b", /^invalid reference format$/],
  ["_x/y", /^invalid reference format$/],
  ["x:", /^invalid reference format$/],
  ["x:-t", /^invalid reference format$/],
  [`x:${"a".repeat(129)}`, /^invalid reference format$/],
  ["x y", /^invalid reference format$/],
  ["x\n", /^invalid reference format$/],
  ["../../etc/passwd", /^invalid reference format$/],
  [hex, /cannot specify 64-byte hexadecimal strings/],
  [`${"a/".repeat(128)}a:tag`, /must not be more than 255 characters/],
  ["[2001:db8::1]", /^invalid reference format$/],
];

test("what is no reference is refused in Docker's words", () => {
  for (const [text, message] of refused)
    assert.throws(
      () => parseReference(text),
      (error) => isError(error, "invalid_argument") && message.test(error.message),
      JSON.stringify(text),
    );
});

test("the default tag goes only where there is neither tag nor digest", () => {
  assert.equal(canonicalOf("busybox"), "docker.io/library/busybox:latest");
  assert.equal(canonicalOf("busybox:1"), "docker.io/library/busybox:1");
  assert.equal(canonicalOf(`busybox@${digest}`), `docker.io/library/busybox@${digest}`);
  assert.equal(withDefaultTag(parseReference("r.io/x")).tag, "latest");
});

test("a tag alone is recognised", () => {
  assert.ok(isTag("v1.0-rc_1"));
  for (const text of ["", ".x", "-x", "a:b", "a/b", "a".repeat(129), "a\n"]) assert.ok(!isTag(text), text);
});

test("any text is either refused or survives the round trip through both forms", () => {
  const piece = fc.string({ unit: fc.constantFrom(..."abz09AZ._-/:@[]"), maxLength: 40 });
  fc.assert(
    fc.property(piece, (text) => {
      let reference: ReturnType<typeof parseReference>;
      try {
        reference = parseReference(text);
      } catch (error) {
        return isError(error, "invalid_argument");
      }
      assert.deepEqual(parseReference(canonicalName(reference)), reference);
      assert.deepEqual(parseReference(familiarName(reference)), reference);
      return true;
    }),
    { numRuns: 2000 },
  );
});
