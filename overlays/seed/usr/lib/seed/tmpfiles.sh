#!/bin/sh
# Directories and links that must exist after every boot. The root may be
# read-only: what is outside /run is made if it can be.
export PATH=/usr/bin

mkdir -p /run/lock /run/user /run/udhcpc || exit 1
chmod 1777 /run/lock
: >/run/utmp

mkdir -p /tmp /var/log /var/tmp /var/empty 2>/dev/null
chmod 1777 /tmp /var/tmp 2>/dev/null
[ -e /var/run ] || ln -s ../run /var/run 2>/dev/null
[ -e /var/lock ] || ln -s ../run/lock /var/lock 2>/dev/null
[ -e /etc/mtab ] || ln -s ../proc/self/mounts /etc/mtab 2>/dev/null
[ -e /etc/resolv.conf ] || : 2>/dev/null >/etc/resolv.conf
exit 0
