#!/bin/sh
# Brings the kernel that the virtual machine of `npm run test:vm` boots: Debian's cloud kernel, unpacked below
# node_modules/.cache, not installed. Where there is no Debian package to be had the suite skips, and says so.
set -eu
cd "$(dirname "$0")/.."
cache=node_modules/.cache/strata-vm
for image in "$cache"/kernel/boot/vmlinuz-*; do [ -e "$image" ] && exit 0; done

say() { printf '%s\n' "strata: $*" >&2; }
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  say "no apt here: unpack a Debian linux-image-cloud-amd64 package into $cache/kernel to run the suite"
  exit 0
fi
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -n 1)
if [ -z "$package" ]; then
  say "the distribution has no linux-image-cloud-amd64 (try apt-get update)"
  exit 0
fi
say "unpacking $package into $cache/kernel"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
(cd "$scratch" && apt-get download -qq "$package" >/dev/null 2>&1) || { say "apt-get download $package failed"; exit 1; }
mkdir -p "$cache"
dpkg-deb -x "$scratch"/*.deb "$scratch/kernel"
mv "$scratch/kernel" "$cache/kernel"
