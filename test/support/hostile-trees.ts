/**
 * Archives made to reach out of the root they are unpacked in. `out` is a folder of the host that nothing may read or
 * change; `secret` a file in it. Each tar is either refused or becomes a tree that stays inside.
 */
import { join } from "node:path";
import { type Member, paxRecord, tarOf } from "./tar-bytes.ts";

const folder = (name: string, mode = 0o755): Member => ({ name, type: "5", mode });
const symlink = (name: string, target: string): Member => ({ name, type: "2", target });
const hardlink = (name: string, target: string): Member => ({ name, type: "1", target });
const file = (name: string, content = "planted"): Member => ({ name, content });
const attribute = (key: string, value: string): Member => ({
  name: "p",
  type: "x",
  content: paxRecord(`SCHILY.xattr.${key}`, value),
});
const up = "../".repeat(12);

/** Names after moby's and containerd's own tests and the advisories that they answer. */
export function hostileTrees(out: string): Readonly<Record<string, readonly Member[]>> {
  const secret = join(out, "secret");
  const climbing = `${up}${out.slice(1)}`;
  return {
    "a name that climbs (moby UntarInvalidFilenames)": [file(`${climbing}/planted`)],
    "an absolute name that climbs": [file(`/..${out}/planted`)],
    "a name that climbs behind a folder": [folder("d"), file(`d/${climbing}/planted`)],
    "a hard link that climbs (moby UntarInvalidHardlink)": [hardlink("h", `${climbing}/secret`)],
    "an absolute hard link (CVE-2026-17106)": [hardlink("h", secret), file("h")],
    "a hard link to a folder outside": [hardlink("h", out), file("h/planted")],
    "a hard link through a link": [symlink("l", out), hardlink("h", "l/secret"), file("h")],
    "a link that climbs, written through (CVE-2014-9356)": [symlink("l", climbing), file("l/planted")],
    "an absolute link, written through": [symlink("l", out), file("l/planted")],
    "a link to a file, written to": [symlink("l", secret), file("l")],
    "a link made of two": [symlink("a", "."), symlink("a/b", climbing), file("a/b/planted"), file("b/planted")],
    "a link below a link": [folder("d"), symlink("d/l", up), symlink("m", `d/l${out}`), file("m/planted")],
    "a hard link to a link, written through (moby UntarHardlinkToSymlink)": [
      symlink("l", secret),
      hardlink("h", "l"),
      file("h"),
    ],
    "a link that becomes a folder (CVE-2021-32760)": [symlink("l", out), folder("l", 0o777), folder("l/.", 0o777)],
    "a mode through a link": [symlink("l", secret), { ...hardlink("l", "l"), mode: 0o6777 }],
    "a folder that becomes a link": [folder("d"), file("d/f"), symlink("d", out), file("d/planted")],
    "a whiteout through a link": [symlink("l", out), file("l/.wh.secret", "")],
    "an opaque mark through a link": [symlink("l", out), file("l/.wh..wh..opq", "")],
    "a whiteout that climbs": [file(`d/.wh...${climbing}/secret`, "")],
    "an attribute through a link": [symlink("l", secret), attribute("user.planted", "1"), hardlink("x", "l")],
    "a device through a link": [symlink("l", out), { name: "l/planted", type: "3", device: [1, 3] }],
    "a pipe through a link": [symlink("l", out), { name: "l/planted", type: "6" }],
    "the root as a link (CVE-2021-29136)": [symlink("/.", out), file("planted")],
    "a link and a name with dots (moby ApplyDotDotFile)": [file("..gitme"), symlink("..l", out), file("..l/planted")],
    "an overlay's redirect as an attribute": [attribute("trusted.overlay.redirect", out), folder("l")],
    "the engine's own places as links": [
      symlink("etc", out),
      symlink("dev", out),
      symlink("proc", out),
      symlink("sys", out),
      symlink("l", out),
    ],
    "the engine's own files as links": [
      folder("etc"),
      symlink("etc/hosts", secret),
      symlink("etc/hostname", secret),
      symlink("etc/resolv.conf", secret),
      symlink("etc/passwd", secret),
      symlink("etc/group", secret),
      symlink("l", secret),
    ],
  };
}

export const tarOfTree = (members: readonly Member[]): Buffer => tarOf(...members);
