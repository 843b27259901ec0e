#!/bin/sh
# Brings the servers that the virtual machine's volume suites mount from (NFS, SMB) and the programs that mount them:
# Debian packages, unpacked below node_modules/.cache, not installed, so that no service of this machine begins. Where
# there is no Debian package to be had the suite skips, and says so.
set -eu
cd "$(dirname "$0")/.."
cache=node_modules/.cache/strata-vm
wanted="cifs-utils nfs-common nfs-kernel-server rpcbind samba"
[ -e "$cache/packages/complete" ] && exit 0

say() { printf '%s\n' "strata: $*" >&2; }
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  say "no apt here: unpack the Debian packages $wanted, and what they need, into $cache/packages to run the suite"
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
# what an installation would bring that is not here yet, and those themselves when they are here; python serves samba's domains only
# shellcheck disable=SC2086
packages=$(apt-get install -s --no-install-recommends $wanted 2>/dev/null | awk '/^Inst/ && $2 !~ /^python3/ {print $2}')
# shellcheck disable=SC2086
packages=$(printf '%s\n' $packages $wanted | sort -u)
say "unpacking $(printf '%s ' $packages)into $cache/packages"
# shellcheck disable=SC2086
(cd "$scratch" && apt-get download -qq $packages >/dev/null 2>&1) || { say "apt-get download failed; the suite of volumes will skip"; exit 0; }
mkdir -p "$cache"
rm -rf "$cache/packages"
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch/packages"; done
touch "$scratch/packages/complete"
mv "$scratch/packages" "$cache/packages"
