#!/bin/sh
# Host name of /etc/hostname, else "seed" if the kernel has none.
export PATH=/usr/bin

name=
[ -r /etc/hostname ] && read -r name _ </etc/hostname
if [ -z "$name" ]; then
    case $(hostname) in
    ''|'(none)'|localhost) name=seed ;;
    *) exit 0 ;;
    esac
fi
exec hostname "$name"
