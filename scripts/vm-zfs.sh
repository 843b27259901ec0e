#!/bin/sh
# Builds OpenZFS for the kernel of the virtual machine (scripts/vm-kernel.sh), for the suites of `npm run test:vm` that
# want it: Debian's zfs-dkms against the headers of that kernel, below node_modules/.cache, nothing of it installed. It
# takes minutes of a processor, so it is run by hand: sh scripts/vm-zfs.sh. zfs-dkms is in Debian's contrib: the lists
# of the mirror that this machine uses are read once more with it, in a folder of their own.
set -eu
cd "$(dirname "$0")/.."
cache=$PWD/node_modules/.cache/strata-vm
say() { printf '%s\n' "strata: $*" >&2; }
fail() { say "$*"; exit 1; }

image=$(ls "$cache"/kernel/boot/vmlinuz-* 2>/dev/null | head -n 1)
[ -n "$image" ] || fail "there is no kernel to build for: run sh scripts/vm-kernel.sh first"
release=${image##*/vmlinuz-}
[ "$(cat "$cache/zfs/release" 2>/dev/null)" = "$release" ] && exit 0
for program in gcc-12 make dpkg-deb apt-get; do command -v $program >/dev/null || fail "$program is needed to build OpenZFS"; done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir -p "$scratch/etc/sources.list.d" "$scratch/lists/partial" "$scratch/archives/partial" "$scratch/packages" "$scratch/root"
: >"$scratch/etc/sources.list"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  grep -qs '/debian' "$file" || continue
  sed -E 's/^(Components:.*[[:space:]]main)\b/\1 contrib/; s/^(deb .*[[:space:]]main)\b/\1 contrib/' "$file" >"$scratch/etc/sources.list.d/${file##*/}"
done
apt() {
  command "$@" -qq -o "Dir::Etc::sourcelist=$scratch/etc/sources.list" -o "Dir::Etc::sourceparts=$scratch/etc/sources.list.d" \
    -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch" -o "Dir::Cache::archives=$scratch/archives" -o APT::Sandbox::User=root
}
say "reading the package lists of Debian's main and contrib"
apt apt-get update
version=${release%-cloud-amd64}
packages="zfs-dkms zfsutils-linux libnvpair3linux libuutil3linux libzfs4linux libzpool5linux
  linux-headers-$release linux-headers-$version-common linux-kbuild-${release%%-*} linux-compiler-gcc-12-x86"
# the kernel's version has two numbers where its packages' has three
packages=$(printf '%s' "$packages" | sed -E 's/(linux-kbuild-[0-9]+\.[0-9]+)\.[0-9]+/\1/')
# shellcheck disable=SC2086
(cd "$scratch/packages" && apt apt-get download $packages) || fail "not all of these could be had: $packages"
for package in "$scratch"/packages/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done

sources=$scratch/root/usr/src
# the headers name the folder that they would be installed in
sed -i "s#/usr/src#$sources#" "$sources/linux-headers-$release/Makefile"
say "building OpenZFS for $release (some minutes)"
cd "$sources"/zfs-*
{
  ./configure --prefix=/usr --with-config=kernel "--with-linux=$sources/linux-headers-$version-common" \
    "--with-linux-obj=$sources/linux-headers-$release"
  make "-j$(nproc)"
} >"$scratch/build.log" 2>&1 || { tail -n 40 "$scratch/build.log" >&2; fail "OpenZFS does not build"; }

rm -rf "$cache/zfs"
mkdir -p "$cache/zfs/modules" "$cache/zfs/root"
find module -name '*.ko' -exec cp {} "$cache/zfs/modules" \;
strip --strip-debug "$cache"/zfs/modules/*.ko
cp -a "$scratch/root/sbin" "$scratch/root/lib" "$cache/zfs/root"
printf '%s' "$release" >"$cache/zfs/release"
say "OpenZFS for $release is in $cache/zfs"
