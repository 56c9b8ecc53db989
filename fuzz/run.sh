#!/bin/sh
# Fuzzes on the stable compiler: fuzz/run.sh [SECONDS_PER_TARGET=10] [TARGET...]
#
# Inputs in fuzz/regressions/TARGET are run first. What a run finds interesting goes to a temporary directory, and a
# reproducer to fuzz/artifacts/TARGET. SUREFOOT_SEED repeats a run.
set -eu
cd "$(dirname "$0")"

seconds=${1:-10}
[ $# -eq 0 ] || shift
seed=${SUREFOOT_SEED:-$(date +%s)}
triple=x86_64-unknown-linux-gnu
targets=${*:-$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' Cargo.toml)}

# What cargo-fuzz does, without the nightly compiler: coverage for libFuzzer, and the address sanitizer.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing $coverage -Zsanitizer=address -Ccodegen-units=1" \
    cargo build --release --target "$triple" --target-dir target --bins

finds=$(mktemp -d)
trap 'rm -rf "$finds"' EXIT
found=0
for target in $targets; do
    echo "== $target, -seed=$seed"
    program=target/$triple/release/$target
    mkdir -p "$finds/$target" "artifacts/$target"
    if [ -d "regressions/$target" ]; then
        for input in "regressions/$target"/*; do
            [ -e "$input" ] || continue
            if ! "$program" "$input" >"$finds/log" 2>&1; then
                cat "$finds/log"
                echo "FOUND AGAIN: fuzz/$input"
                found=1
            fi
        done
    fi
    set -- "$finds/$target"
    [ ! -d "corpus/$target" ] || set -- "$@" "corpus/$target"
    if "$program" "-seed=$seed" "-max_total_time=$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=16384 \
        -print_final_stats=1 "-artifact_prefix=artifacts/$target/" "$@" >"$finds/log" 2>&1; then
        grep -E '^(Done|stat::(number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb))' "$finds/log"
    else
        grep -v -E '^#[0-9]+[[:space:]]' "$finds/log" | tail -n 200
        reproducer=$(sed -n 's/.*Test unit written to //p' "$finds/log" | tail -n 1)
        echo "FOUND by $target with -seed=$seed: fuzz/${reproducer:-(no reproducer was written)}"
        found=1
    fi
done
exit $found
