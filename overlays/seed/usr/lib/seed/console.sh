#!/bin/sh
# Loads the keyboard layout: kernel parameter vconsole.keymap=NAME, or the first
# word of /etc/keymap. Layouts are binary maps of loadkmap in /usr/share/bkeymaps.
set -u
export PATH=/usr/bin

name=
[ -r /etc/keymap ] && read -r name _ </etc/keymap
read -r words </proc/cmdline
for word in $words; do
    case $word in vconsole.keymap=*) name=${word#*=} ;; esac
done
[ -n "$name" ] || exit 0
[ -c /dev/tty0 ] || exit 0
case $name in
*/*|.*)
    echo "console: \"$name\" is not the name of a keyboard layout" >&2
    exit 1
    ;;
esac
map=$(find /usr/share/bkeymaps -name "$name.bmap*" 2>/dev/null | sort | head -n 1)
case $map in
'')
    echo "console: there is no keyboard layout \"$name\"" >&2
    exit 1
    ;;
*.gz) zcat "$map" | loadkmap ;;
*) loadkmap <"$map" ;;
esac
