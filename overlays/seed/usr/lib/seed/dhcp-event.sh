#!/bin/sh
# Called by udhcpc with deconfig, bound, renew, leasefail or nak. The lease is in
# the variables interface, ip, mask, router, dns, domain.
set -u
export PATH=/usr/bin

write_resolver() {
    [ -n "${dns:-}" ] || return 0
    {
        [ -n "${domain:-}" ] && echo "search $domain"
        for server in $dns; do
            echo "nameserver $server"
        done
    } >/run/udhcpc/resolv.conf
    # A link is followed: live systems point it into /run.
    cat /run/udhcpc/resolv.conf >/etc/resolv.conf
}

case ${1:-} in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set dev "$interface" up
    ;;
bound|renew)
    ip -4 address flush dev "$interface"
    ip -4 address add "$ip/${mask:-24}" dev "$interface" || exit 1
    metric=0
    for gateway in ${router:-}; do
        # A gateway outside the network (mask 32) needs a way of its own first.
        [ "${mask:-24}" = 32 ] && ip -4 route replace "$gateway/32" dev "$interface"
        ip -4 route replace default via "$gateway" dev "$interface" metric "$metric"
        metric=$((metric + 1))
    done
    write_resolver
    ;;
esac
exit 0
