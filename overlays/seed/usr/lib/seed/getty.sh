#!/bin/sh
# Starts getty-service@TTY for every console: those the kernel uses, those of
# console= on its command line, and those of /etc/default/getty. So a serial line
# works with nothing but console=ttyS0.
set -u
export PATH=/usr/bin

ACTIVE_CONSOLES=yes
EXTRA_GETTYS=
[ -r /etc/default/getty ] && . /etc/default/getty

terminals=
if [ "$ACTIVE_CONSOLES" = yes ]; then
    [ -r /sys/class/tty/console/active ] && read -r terminals </sys/class/tty/console/active
    read -r words </proc/cmdline
    for word in $words; do
        case $word in
        console=*)
            terminal=${word#console=}
            terminals="$terminals ${terminal%%,*}"
            ;;
        esac
    done
fi

seen=' '
for terminal in $terminals $EXTRA_GETTYS; do
    # tty0 is whichever virtual terminal is in front; a login needs one of its own.
    [ "$terminal" = tty0 ] && terminal=tty1
    case $terminal in ''|*/*|*[!A-Za-z0-9_.-]*) continue ;; esac
    case $seen in *" $terminal "*) continue ;; esac
    seen="$seen$terminal "
    [ -c "/dev/$terminal" ] || continue
    seedctl add-dep waits-for getty "getty-service@$terminal" &&
        seedctl wake --no-wait "getty-service@$terminal"
done
exit 0
