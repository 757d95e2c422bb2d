#!/bin/sh
# First process of the namespaces that systemd.py makes: lays an overlay over the machine's root, puts only what a systemd needs into it,
# and becomes systemd. What it mounts and writes ends with the namespaces. Not run by hand.
# Arguments: folder of this instance, its name; then pairs of a folder of the machine and the place where it is seen inside.
set -eu
umask 022 # with a root that is for its owner only, D-Bus and so the boot never come up
folder=$1 name=$2
shift 2

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$folder/tree"
mkdir "$folder/tree/upper" "$folder/tree/work" "$folder/tree/root"
# Folders to be shared are held from above the overlay, since /tmp and /run of the machine are hidden below.
count=0
for word in "$@"; do
    count=$((count + 1))
    if [ $((count % 2)) = 1 ]; then
        mkdir -p "$folder/tree/shared/$count"
        mount --bind "$word" "$folder/tree/shared/$count"
    fi
done
root=$folder/tree/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/tree/upper,workdir=$folder/tree/work" "$root"
mount -t proc proc "$root/proc"
mount --bind /sys "$root/sys"
mount -o remount,ro,bind "$root/sys"

# The same hierarchies as outside; the cgroup namespace makes ours their roots.
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    while read -r hierarchy _; do
        mkdir "$root/sys/fs/cgroup/$hierarchy"
        case $hierarchy in
        unified) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" ;;
        systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" ;;
        *) mount -t cgroup -o "$hierarchy" cgroup "$root/sys/fs/cgroup/$hierarchy" ;;
        esac
    done <"$folder/cgroups"
fi

mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/run/lock"

count=0 shared=
for word in "$@"; do
    count=$((count + 1))
    if [ $((count % 2)) = 1 ]; then
        shared=$folder/tree/shared/$count
    else
        mkdir -p "$root$word"
        mount --bind "$shared" "$root$word"
    fi
done

# Nothing of the machine's own services, and nothing that would set up hardware or the network.
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/edgepose" "$root/opt/edgepose" "$root/var/lib/edgepose" "$root/var/lib/private"
printf '[Manager]\nDefaultTimeoutStopSec=10s\n' >"$root/etc/systemd/system.conf"
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf"
echo "$name" >"$root/etc/hostname"
: >"$root/etc/fstab"
: >"$root/etc/machine-id"
for unit in systemd-resolved.service systemd-timesyncd.service systemd-networkd.service systemd-udevd.service \
    systemd-udev-trigger.service systemd-modules-load.service systemd-sysctl.service systemd-random-seed.service apparmor.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount sys-kernel-config.mount dev-hugepages.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

cd "$root"
mkdir -p .machine
pivot_root . .machine
umount -l /.machine
mount --make-rshared / # else the credentials of a service are mounted where it does not see them
exec env -i container=edgepose-test "SYSTEMD_TPM2_DEVICE=${SYSTEMD_TPM2_DEVICE-}" PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
