/**
 * The file with a client's key: the key alone, or a keyring as `ceph auth get` writes it. It is read by ceph-fuse itself,
 * which writes what it cannot read to its log, key and all: so a file is looked at closely before, and what it holds
 * is in no message. Pure.
 */
import { refused } from "../share-options.ts";

/** The option of ceph-fuse that names such a file. */
export type KeyForm = "keyfile" | "keyring";

/** Throws invalid_argument that says what is wrong with the file of `option`. */
export function formOfKey(option: string, text: string, user: string): KeyForm {
  if (isKey(text)) return "keyfile";
  if (!/^\s*\[/m.test(text))
    throw refused(
      `the file of the option ${option} holds no key: it is the one line of 'ceph auth get-key client.${user}', or the keyring of 'ceph auth get client.${user}'`,
    );
  if (usersOf(option, text).has(`client.${user}`)) return "keyring";
  throw refused(`the keyring of the option ${option} has no key of client.${user}; give the user whose key it holds`);
}

/** Those whose keys a keyring holds. */
function usersOf(option: string, text: string): ReadonlySet<string> {
  const users = new Set<string>();
  let section = "";
  for (const [index, line] of text.split("\n").entries()) {
    const fail = (what: string): Error => refused(`line ${index + 1} of the keyring of the option ${option} ${what}`);
    if (/^\s*([#;].*)?$/.test(line)) continue;
    const [, name] = /^\s*\[([a-z]+\.[^[\]\s]*)\]\s*$/.exec(line) ?? [];
    const [, key] = /^\s*key\s*=\s*(\S+)\s*$/.exec(line) ?? [];
    if (name !== undefined) section = name;
    else if (key !== undefined) {
      if (section === "" || !isKey(key)) throw fail("is no key of anybody");
      users.add(section);
    } else if (!/^\s*caps [a-z]+\s*=\s*"[^"\\]*"\s*$/.test(line)) throw fail("is not what 'ceph auth get' writes");
  }
  return users;
}

/** Where the length of the secret stands: after a type, and the time when it was made. */
const lengthAt = 10;
const headLength = 12;

/** Base64 of a type, a time, a length and as many bytes (CryptoKey in Ceph's src/auth/Crypto.h). */
function isKey(text: string): boolean {
  if (!/^[A-Za-z0-9+/]{20,400}={0,2}$/.test(text) || text.length % 4 !== 0) return false;
  const bytes = Buffer.from(text, "base64");
  return bytes.length > headLength && bytes.readUInt16LE(lengthAt) === bytes.length - headLength;
}
