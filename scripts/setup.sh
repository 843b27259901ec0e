#!/bin/sh
# Brings a machine to where the command named in $1 can run: the project's npm packages (its own Node among them) and
# the programs that Strata calls. It says what it installs before it does, and installs nothing that is there already.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-start}

say() { printf '%s\n' "$*" >&2; }
fail() { say "strata: $*"; exit 1; }

command -v npm >/dev/null 2>&1 || fail "npm is not installed. Install Node.js with npm (Debian: apt-get install npm), then run this again."

# npm packages, when the lock file is not the one that was installed last
stamp=node_modules/.installed-lock
if ! cmp -s package-lock.json "$stamp" 2>/dev/null || [ ! -x node_modules/.bin/node ]; then
  say "strata: installing npm packages"
  # not `npm ci`: it refuses a lock file without the optional packages of other platforms
  npm install --no-save --no-audit --no-fund --loglevel=error >&2 || fail "npm install failed; see above."
  # npm versions that hold back install scripts leave the runtime out: run that one step by hand
  [ -x node_modules/node/bin/node ] || (cd node_modules/node && node installArchSpecificPackage >&2) || fail "the npm package 'node' did not install a Node binary."
  cp package-lock.json "$stamp"
fi
[ "$purpose" = check ] && exit 0

# every module compiled once, so that no start has to strip types; nothing depends on it
NODE_COMPILE_CACHE="$PWD/node_modules/.cache/strata" node_modules/.bin/node --max-semi-space-size=2 scripts/warm.ts || true
bin/strata --version >/dev/null || true

# programs: command=package, by distribution
system="runc conmon tini busybox"
case $purpose in
  test | bench) system="$system docker dockerd mkfs.btrfs mkfs.xfs mkfs.ext4 xz bzip2 unshare ip tar skopeo umoci python3 fuse-overlayfs setpriv getfattr flock podman strace" ;;
  ceph) system="$system docker dockerd ceph ceph-fuse ceph-mds ceph-mon ceph-osd unshare tar" ;;
  vm) system="$system ip qemu-system-x86_64 mkfs.btrfs mkfs.xfs mkfs.ext4 btrfs unshare setpriv" ;;
esac
# not every distribution has it; without it the suites of the zfs driver are skipped
[ "$purpose" = test ] && command -v apt-get >/dev/null 2>&1 && system="$system zfs-fuse"
# a volume plugin that others wrote, programs that mount volumes, and servers for them
[ "$purpose" = test ] && system="$system glusterd gocryptfs rclone sshd sshfs"
seccomp=/usr/share/containers/seccomp.json

missing=""
for program in $system; do command -v "$program" >/dev/null 2>&1 || missing="$missing $program"; done
[ -e "$seccomp" ] || missing="$missing seccomp.json"
# an S3 server for tests; no program of it is called
[ "$purpose" = test ] && command -v apt-get >/dev/null 2>&1 && [ ! -d /usr/lib/python3/dist-packages/swift ] && missing="$missing python3-swift"
# the busybox image needs a static busybox
if command -v busybox >/dev/null 2>&1 && ldd "$(command -v busybox)" >/dev/null 2>&1; then missing="$missing busybox"; fi
[ -z "$missing" ] && exit 0

[ "$(id -u)" = 0 ] || fail "these are missing:$missing. Strata runs containers and mounts filesystems, so it needs root: run this again as root (sudo npm ${purpose})."

debian_package() {
  case $1 in
    busybox) echo busybox-static ;;
    seccomp.json) echo golang-github-containers-common ;;
    docker | dockerd) echo docker.io ;;
    mkfs.btrfs | btrfs) echo btrfs-progs ;;
    mkfs.xfs) echo xfsprogs ;;
    mkfs.ext4) echo e2fsprogs ;;
    xz) echo xz-utils ;;
    unshare | setpriv | flock) echo util-linux ;;
    getfattr) echo attr ;;
    glusterd) echo glusterfs-server ;;
    ceph) echo ceph-common ;;
    qemu-system-x86_64) echo qemu-system-x86 ;;
    ip) echo iproute2 ;;
    sshd) echo openssh-server ;;
    *) echo "$1" ;;
  esac
}
fedora_package() {
  case $1 in
    seccomp.json) echo containers-common ;;
    docker | dockerd) echo moby-engine ;;
    mkfs.btrfs | btrfs) echo btrfs-progs ;;
    mkfs.xfs) echo xfsprogs ;;
    mkfs.ext4) echo e2fsprogs ;;
    unshare | setpriv | flock) echo util-linux ;;
    getfattr) echo attr ;;
    glusterd) echo glusterfs-server ;;
    ceph) echo ceph-common ;;
    qemu-system-x86_64) echo qemu-system-x86-core ;;
    ip) echo iproute ;;
    sshd) echo openssh-server ;;
    sshfs) echo fuse-sshfs ;;
    *) echo "$1" ;;
  esac
}

if command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq >/dev/null 2>&1 || say "strata: 'apt-get update' failed; trying with the lists that are here"
  packages=$(for program in $missing; do debian_package "$program"; done | sort -u | tr '\n' ' ')
  apt-cache show zfs-fuse >/dev/null 2>&1 || packages=$(printf '%s' "$packages" | sed 's/zfs-fuse//')
  [ -z "$(printf '%s' "$packages" | tr -d ' ')" ] && exit 0
  say "strata: installing from the distribution: $packages"
  # Policy: a daemon that comes with a package (docker.io) is not started by this
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null || fail "apt-get install $packages failed."
elif command -v dnf >/dev/null 2>&1; then
  packages=$(for program in $missing; do fedora_package "$program"; done | sort -u | tr '\n' ' ')
  say "strata: installing from the distribution: $packages"
  # shellcheck disable=SC2086
  dnf install -y -q $packages >&2 || fail "dnf install $packages failed."
else
  fail "these are missing:$missing. Install them with your distribution's package manager (Debian, Ubuntu and Fedora are done for you)."
fi
