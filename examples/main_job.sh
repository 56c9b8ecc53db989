#!/usr/bin/env bash
# The main job on real input: fetches two releases of a package, builds a signed patch between them, applies it, kills
# the process in the middle, recovers, verifies, and goes back. `examples/main_job.sh [FOLDER]` keeps its files there.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
say() { printf '\n== %s\n' "$*"; }

if [ $# -gt 0 ]; then
    work=$(mkdir -p "$1" && cd "$1" && pwd)
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
cd "$work"
rm -rf old new live key key.pub update.sfp
mkdir old new

say "building surefoot"
cargo build --release --quiet --manifest-path "$top/Cargo.toml"
surefoot=${CARGO_TARGET_DIR:-$top/target}/release/surefoot

# A pair of real trees, by the client of a registry that has them; or one made here.
fetch_by_npm() {
    command -v npm > /dev/null || return 1
    package=@mui/material
    for release in 9.4.0:old 9.5.0:new; do
        npm pack --silent "$package@${release%:*}" > /dev/null 2>&1 || return 1
        tar xzf "mui-material-${release%:*}.tgz" -C "${release#*:}" --strip-components=1 || return 1
    done
}
fetch_by_pip() {
    python3 -c 'import pip' 2> /dev/null || return 1
    package=django
    for release in 5.1:old 5.2:new; do
        python3 -m pip download --quiet --no-deps --only-binary :all: "$package==${release%:*}" > pip.log 2>&1 \
            && python3 -m zipfile -e ./[Dd]jango-"${release%:*}"-*.whl "${release#*:}" || return 1
    done
}
# What only one of several clients brought is no part of a pair.
start_anew() { rm -rf old new && mkdir old new; }
make_pair() {
    for n in $(seq 1 1500); do
        mkdir -p "old/d$((n % 30))" "new/d$((n % 30))"
        printf 'file %s, the same in both\n' "$n" > "old/d$((n % 30))/f$n"
        if [ $((n % 3)) -eq 0 ]; then printf 'file %s, changed\n' "$n"; else cat "old/d$((n % 30))/f$n"; fi \
            > "new/d$((n % 30))/f$n"
    done
    mv new/d7/f7 new/d8/moved && rm new/d9/f9
}
if fetch_by_npm || { start_anew && fetch_by_pip; }; then
    say "fetched two releases of $package: $(find old -type f | wc -l) files and $(find new -type f | wc -l) files"
else
    say "SKIPPED: neither npm nor pip brings two releases of a real package here, so a pair of trees is made instead"
    start_anew
    make_pair
fi
cp -a old live

say "the publisher makes a key and builds a signed patch, which is proved by applying it and taking it back"
"$surefoot" keygen -o key
"$surefoot" -q build old new --from 1.0.0 --to 1.1.0 --key key -o update.sfp

say "the device takes its tree under care, as version 1.0.0, and trusts that key"
"$surefoot" --root live init --version 1.0.0 --trust key.pub

state() { "$surefoot" --root live --json status | sed 's/.*"state":"\([a-z]*\)".*/\1/'; }
same() { diff -r --no-dereference --exclude .surefoot live "$1" > /dev/null; }
# The same in content, and in modes, owners, links and attributes.
exactly() {
    same "$1" && "$surefoot" --json diff live "$1" | grep '"same":true' > /dev/null && echo "the tree is exactly the $2" \
        || { echo "the tree is not exactly the $2"; exit 1; }
}

# A blind kill seldom hits the few milliseconds of the steps. So the process is stopped every moment to look at its
# journal and its tree, and killed when the tree is in between.
say "it applies the patch, and is killed with kill -9 in the middle"
caught=
for attempt in $(seq 1 50); do
    "$surefoot" --root live -q apply update.sfp > apply.log 2>&1 &
    process=$!
    while kill -STOP $process 2> kill.log; do
        if [ "$(state)" = applying ] && ! same old && ! same new; then
            caught=1
            kill -9 $process
            break
        fi
        kill -CONT $process
    done
    wait $process 2> kill.log || true
    [ -z "$caught" ] || break
    "$surefoot" --root live -q rollback > apply.log
done
[ -n "$caught" ] || { echo "the process was not caught in the middle in $attempt attempts"; exit 1; }
echo "attempt $attempt: the process is dead, and the tree is now neither the old nor the new version"
"$surefoot" --root live status

say "recovery, as it would run at the next start"
"$surefoot" --root live recover
exactly new "new version"
"$surefoot" --root live verify

say "and back"
"$surefoot" --root live rollback
exactly old "old version again"
"$surefoot" --root live verify
"$surefoot" --root live history | tail -3
