#!/bin/sh
# The first process on the guest's own disk: what a running system has, then the agent that the host talks to.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
for folder in /run /tmp /var /data; do mount -t tmpfs tmpfs $folder; done
mkdir -p /dev/pts /dev/shm /var/tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
ulimit -n 65536
node --disable-warning=ExperimentalWarning /strata/test/vm/guest/agent.js
echo "the agent ended with $?"
poweroff -f
