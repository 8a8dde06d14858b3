#!/usr/bin/env bash
# Fuzzes with libFuzzer: run.sh SECONDS [TARGET…]
#
# Stable Rust: the coverage pass of LLVM is asked for by its own flags. An input that is a fault is kept in
# hostile/TARGET, to be committed with the repair. New inputs are kept in $LYCIA_FUZZ_CORPUS, by default beside the
# build. libFuzzer's C++ needs g++ or clang++.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:?usage: run.sh SECONDS [TARGET…]}
shift
build=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
corpus=${LYCIA_FUZZ_CORPUS:-$build/corpus}
host=$(rustc -vV | sed -n 's/^host: //p')
cd "$here"
cargo build --quiet -p lycia-fuzz --bin seeds
seeds=${CARGO_TARGET_DIR:-$here/../../target}/debug/seeds
# Only the program with libFuzzer in it has what the coverage calls.
CARGO_TARGET_DIR=$build RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module
 -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --quiet --release --target "$host" -p lycia-fuzz --features libfuzzer --bin fuzz
program=$build/$host/release
if [ $# = 0 ]; then
    # shellcheck disable=SC2046
    set -- $("$seeds")
fi
failed=()
for target; do
    "$seeds" "$build/seeds" "$target"
    mkdir -p "$corpus/$target" "hostile/$target"
    echo "== $target"
    LYCIA_FUZZ_TARGET=$target "$program/fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
        -malloc_limit_mb=1024 -max_len=262144 -print_final_stats=1 -artifact_prefix="hostile/$target/" \
        "$corpus/$target" "$build/seeds/$target" "hostile/$target" 2>"$build/$target.log" || failed+=("$target")
    grep -E 'stat::(number_of_executed|peak_rss)|SUMMARY|panicked' "$build/$target.log" || true
    rmdir --ignore-fail-on-non-empty "hostile/$target"
done
if [ ${#failed[@]} != 0 ]; then
    echo "faults in: ${failed[*]}; logs in $build" >&2
    exit 1
fi
