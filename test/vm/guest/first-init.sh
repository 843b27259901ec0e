#!/bin/busybox sh
# The first process of the guest: loads the modules, mounts the system disk and the project's, goes on there.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
filesystem=$(/bin/busybox sed 's/.*filesystem=\([a-z0-9]*\).*/\1/' /proc/cmdline)
for module in /modules/always/* "/modules/$filesystem"/*; do
  [ ! -e "$module" ] || /bin/busybox insmod "$module" || echo "could not load $module"
done
tries=0
until [ -b /dev/vdc ] || [ $tries = 100 ]; do tries=$((tries + 1)); /bin/busybox usleep 50000; done
/bin/busybox mount -t ext4 -o ro /dev/vda /root || /bin/busybox poweroff -f
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/strata || /bin/busybox poweroff -f
for folder in proc sys dev; do /bin/busybox mount --move /$folder /root/$folder; done
exec /bin/busybox switch_root /root /bin/sh /strata/test/vm/guest/init.sh
