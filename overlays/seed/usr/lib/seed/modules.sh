#!/bin/sh
# Loads modules named in modules-load.d (first file of a name wins) and by the
# kernel parameter modules_load=a,b.
set -u
export PATH=/usr/bin

[ -e /proc/modules ] || exit 0

seen=' '
for directory in /etc/modules-load.d /run/modules-load.d /usr/lib/modules-load.d; do
    for file in "$directory"/*.conf; do
        [ -f "$file" ] || continue
        case $seen in *" ${file##*/} "*) continue ;; esac
        seen="$seen${file##*/} "
        while read -r module _; do
            case $module in ''|'#'*|';'*) continue ;; esac
            modprobe -q -b "$module" || echo "modules: $module cannot be loaded" >&2
        done <"$file"
    done
done

read -r words </proc/cmdline
for word in $words; do
    case $word in
    modules_load=*|modules-load=*)
        for module in $(echo "${word#*=}" | tr ',' ' '); do
            modprobe -q -b "$module" || echo "modules: $module cannot be loaded" >&2
        done
        ;;
    esac
done
exit 0
