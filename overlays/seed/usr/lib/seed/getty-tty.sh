#!/bin/sh
# One login on terminal $1. Speed: of console= for that terminal, else what the
# line has now ("0" leaves it alone).
set -u
export PATH=/usr/bin

terminal=${1:?usage: getty-tty.sh TERMINAL}
speed=0
type=vt220
case $terminal in tty[0-9]*) type=linux ;; esac

read -r words </proc/cmdline
for word in $words; do
    case $word in
    console="$terminal",[0-9]*)
        speed=${word#*,}
        # 115200n8: the digits in front.
        speed=${speed%%[!0-9]*}
        ;;
    esac
done
[ -r "/etc/default/getty-$terminal" ] && . "/etc/default/getty-$terminal"

# -L: serial lines without carrier detection work, too.
exec getty -L "$speed" "$terminal" "$type"
