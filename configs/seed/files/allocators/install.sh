# install.sh NAME LIBRARY: puts a library that every program is to load first, and what exports it, below $OUT.
#
# Shells get it from /etc/profile.d, services from dinit's environment file. A program without a dynamic loader is not
# reached, and one that gains privileges ignores it, as the C library has it (musl's dynlink.c: `libc.secure`).
# /etc/dinit/environment belongs to exactly one package: to seed-environment or to one of the allocators.
name=$1
library=$2
mkdir -p "$OUT/usr/lib" "$OUT/etc/profile.d" "$OUT/etc/dinit"
cp "$library" "$OUT/usr/lib/lib$name.so"
$STRIP "$OUT/usr/lib/lib$name.so"
cat >"$OUT/etc/profile.d/malloc-global.sh" <<PROFILE
# Of the package $name: every program that is started from here on allocates through it.
export LD_PRELOAD=/usr/lib/lib$name.so
PROFILE
cat >"$OUT/etc/dinit/environment" <<ENVIRONMENT
# Environment of all services, one NAME=VALUE a line. Of the package $name: services allocate through it.
LD_PRELOAD=/usr/lib/lib$name.so
ENVIRONMENT
