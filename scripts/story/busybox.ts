/** A `busybox:latest` image out of the machine's own static busybox, so that nothing has to be pulled. */
import { execFileSync } from "node:child_process";
import type { Api } from "./api.ts";

const script = `set -e
busybox=$(command -v busybox); root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/root" "$root/var"; cp "$busybox" "$root/bin/busybox"
for name in $("$busybox" --list); do [ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"; done
printf '#!/bin/sh\\nexec sh "$@"\\n' >"$root/bin/bash"; chmod 755 "$root/bin/bash"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"; echo 'root:x:0:' >"$root/etc/group"; chmod 1777 "$root/tmp"; chmod 755 "$root"
tar -C "$root" -c --numeric-owner --owner=0 --group=0 .`;

/** Makes the image if there is none; returns true when it did. */
export async function ensureBusybox(api: Api): Promise<boolean> {
  const images = await api.call(`/images/json?filters=${encodeURIComponent('{"reference":["busybox:latest"]}')}`);
  if (Array.isArray(images) && images.length > 0) return false;
  const tar = execFileSync("sh", ["-c", script], { maxBuffer: 256 * 2 ** 20 });
  const changes = `changes=${encodeURIComponent('CMD ["sh"]')}`;
  await api.call(`/images/create?fromSrc=-&repo=busybox&tag=latest&${changes}`, { method: "POST", body: tar });
  return true;
}
