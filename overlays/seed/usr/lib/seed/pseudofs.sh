#!/bin/sh
# Mounts the kernel's file systems that are not mounted yet.
set -u
export PATH=/usr/bin

# mount_missing TYPE TARGET OPTIONS
mount_missing() {
    mountpoint -q "$2" && return 0
    mkdir -p "$2" && mount -t "$1" -o "$3" "$1" "$2"
}

mount_missing proc /proc nosuid,nodev,noexec || exit 1
mount_missing sysfs /sys nosuid,nodev,noexec || exit 1
# A /dev from the initramfs may be devtmpfs without being a mount point of its own.
[ -c /dev/null ] || mount_missing devtmpfs /dev nosuid,mode=0755 || exit 1
mount_missing tmpfs /run nosuid,nodev,mode=0755 || exit 1
mount_missing devpts /dev/pts nosuid,noexec,gid=5,mode=0620,ptmxmode=0666
mount_missing tmpfs /dev/shm nosuid,nodev,mode=1777

# What some kernels lack is not missed.
[ -d /sys/fs/cgroup ] && mount_missing cgroup2 /sys/fs/cgroup nosuid,nodev,noexec,nsdelegate
[ -d /sys/firmware/efi/efivars ] && mount_missing efivarfs /sys/firmware/efi/efivars nosuid,nodev,noexec
[ -d /sys/kernel/security ] && mount_missing securityfs /sys/kernel/security nosuid,nodev,noexec

for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    [ -e "/dev/${link%%:*}" ] || ln -s "${link#*:}" "/dev/${link%%:*}"
done
exit 0
