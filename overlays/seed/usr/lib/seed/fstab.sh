#!/bin/sh
# Mounts what fstab lists, and waits a moment for its devices.
set -u
export PATH=/usr/bin

[ -r /etc/fstab ] || exit 0

# Devices that a slow bus has not shown yet: ten seconds for all together.
left=100
while read -r device target type options _; do
    case $device in ''|'#'*) continue ;; esac
    case ",$options," in *,noauto,*|*,nofail,*|*,_netdev,*) continue ;; esac
    [ "$type" != swap ] || continue
    while [ "$left" -gt 0 ]; do
        case $device in
        UUID=*|LABEL=*) findfs "$device" >/dev/null 2>&1 && break ;;
        /dev/*) [ -e "$device" ] && break ;;
        *) break ;;
        esac
        left=$((left - 1))
        usleep 100000
    done
done </etc/fstab

exec mount -a -O no_netdev
