#!/bin/sh
# Runs syslogd and tells on descriptor 4 when its socket is there: what is sent
# earlier would be lost.
set -u
export PATH=/usr/bin

rm -f /dev/log
# Twice in the background, so that the waiting shell is no child of syslogd.
(
    {
        left=100
        until [ -S /dev/log ]; do
            left=$((left - 1))
            [ "$left" -gt 0 ] || exit 1
            usleep 20000
        done
        echo ready >&4
    } &
)
# -L: busybox 1.37.0 forgets its own default of logging locally.
exec syslogd -n -L -s 1024 -b 2 4>&-
