#!/bin/sh
# Kernel settings: sysctl.d in name order (first directory of a name wins), then
# sysctl.conf. Unknown settings are told and left out.
export PATH=/usr/bin

[ -d /proc/sys ] || exit 0
for directory in /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d; do
    for file in "$directory"/*.conf; do
        [ -f "$file" ] && echo "${file##*/} $file"
    done
done | sort -s -k 1,1 -u | while read -r _ file; do
    sysctl -e -q -p "$file"
done
[ -f /etc/sysctl.conf ] && sysctl -e -q -p /etc/sysctl.conf
exit 0
