#!/bin/sh
# Runs udhcpc on the first ethernet interface; waits for one to appear.
set -u
export PATH=/usr/bin

# Type 1 is ethernet (ARPHRD_ETHER); a "device" link sets hardware apart from
# bridges, and wireless interfaces need more than an address.
first_ethernet() {
    for path in /sys/class/net/*; do
        [ -e "$path/device" ] || continue
        [ -e "$path/wireless" ] || [ -e "$path/phy80211" ] && continue
        read -r kind <"$path/type" || continue
        [ "$kind" = 1 ] || continue
        echo "${path##*/}"
        return 0
    done
    return 1
}

left=60
until interface=$(first_ethernet); do
    left=$((left - 1))
    # None in a minute: there is no network here, which is no failure.
    [ "$left" -gt 0 ] || exit 0
    sleep 1
done

ip link set dev "$interface" up || exit 1
exec udhcpc -f -S -i "$interface" -s /usr/lib/seed/dhcp-event.sh -t 5 -T 3 -A 15 -x "hostname:$(hostname)"
