#!/bin/sh
# Remounts the root file system writable, unless the command line or fstab says
# read-only.
set -u
export PATH=/usr/bin

wanted=rw
if [ -r /etc/fstab ]; then
    while read -r device target type options _; do
        case $device in ''|'#'*) continue ;; esac
        [ "$target" = / ] || continue
        case ",$options," in *,ro,*) wanted=ro ;; esac
    done </etc/fstab
fi
# "ro" is what boot loaders write for a root that is checked first, so only
# the explicit request of a read-only system counts.
read -r words </proc/cmdline
for word in $words; do
    case $word in seed.readonly|seed.readonly=1) wanted=ro ;; esac
done
[ "$wanted" = rw ] || exit 0

# An overlay or a tmpfs is writable already, and may refuse a remount.
if touch /.seed-root-test 2>/dev/null; then
    rm -f /.seed-root-test
    exit 0
fi
exec mount -o remount,rw /
