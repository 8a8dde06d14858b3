# check.sh NAME: the library takes over all allocation functions and passes what the C library's allocators pass.
name=$1
library=$OUT/usr/lib/lib$name.so
# What it needs beside the C library would be missing in the target.
if $READELF -d "$library" | grep NEEDED | grep -v 'libc\.so'; then exit 1; fi
[ "$(uname -m)" = "$ARCH" ] || { echo "not run: this machine cannot execute $ARCH"; exit 0; }
t="$CC -std=c11 -O2 -Wall -Werror -fno-builtin"
$t "$SRC/checks/heap-stress.c" -o heap-stress
$t "$SRC/checks/heap-faults.c" -o heap-faults
$t -shared -fPIC "$SRC/checks/heap-library.c" -o heap-library.so
$t "$SRC/allocators/heap-owner.c" -o heap-owner
ulimit -c 0
run() { "$SYSROOT/usr/lib/libc.so" --preload "$library" "$@"; }
run ./heap-owner "lib$name.so"
run ./heap-faults none
run ./heap-stress ./heap-library.so
# As the loader of the target will find it: by the variable, and no harm where the file is gone.
LD_PRELOAD=$library "$SYSROOT/usr/lib/libc.so" ./heap-owner "lib$name.so"
LD_PRELOAD=/nonexistent/lib$name.so "$SYSROOT/usr/lib/libc.so" ./heap-faults none
# For the log: what it notices.
for fault in double-free overflow underflow free-inside; do
    set +e
    # Some never return.
    timeout 5 "$SYSROOT/usr/lib/libc.so" --preload "$library" ./heap-faults $fault >fault.log 2>&1
    echo "$name: $fault ends with status $?: $(head -1 fault.log)"
    set -e
done
