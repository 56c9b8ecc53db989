#!/usr/bin/env bash
# Measures patches of real trees, beside their peers in the same run, and prints a Markdown table.
#
#   LAB=DIR benches/patches.sh [PAIR...]
#
# LAB       a directory with trees/NAME/old and trees/NAME/new; pairs are these names (default all)
# LEVELS    levels to build at (default "fast default best")
# PEERS     peers: any of "zstd-3 zstd-19 xdelta3 hdiffpatch bsdiff" (default "zstd-3 hdiffpatch"). hdiffpatch and bsdiff
#           are PyPI's hdiffpatch and bsdiff4, for the python3 that PYTHON names
# TMPDIR    room for two copies of a pair; nothing is left there
#
# Ours is examples/delta_lab: segments, headers and views, decoded and compared, and not the container. The peers get all
# changed and new files in one, and the old ones in one: those of the same paths, or all if files are new.
# CPU is user and system time of building; peak is the largest resident set.
set -euo pipefail
export LC_ALL=C

lab=${LAB:?LAB is not set}
levels=${LEVELS-fast default best}
peers=${PEERS-zstd-3 hdiffpatch}
python=${PYTHON:-python3}
[ $# -gt 0 ] || set -- $(ls "$lab/trees")

cargo build -q --release --all-features --example delta_lab
base=$(mktemp -d "${TMPDIR:-/var/tmp}/patches.XXXXXX")
trap 'rm -rf "$base"' EXIT
trap 'exit 130' INT TERM HUP
cp target/release/examples/delta_lab "$base/delta_lab"

# What has changed, in one file, and what it may come from, in another.
gather() {
    python3 - "$1/old" "$1/new" "$base/old" "$base/new" <<'PYTHON'
import filecmp, os, sys
old_root, new_root, old_out, new_out = sys.argv[1:]
def files(root):
    found = (os.path.join(at, name) for at, _, names in os.walk(root) for name in names)
    return sorted(os.path.relpath(path, root) for path in found if os.path.isfile(path) and not os.path.islink(path))
old, new = files(old_root), files(new_root)
known = set(old)
same = lambda name: name in known and filecmp.cmp(f"{old_root}/{name}", f"{new_root}/{name}", False)
changed = [name for name in new if not same(name)]
paired = [name for name in changed if name in known]
weight = lambda names: sum(os.path.getsize(f"{new_root}/{name}") for name in names)
if weight(paired) >= 0.99 * weight(changed):
    old = paired
for root, names, out in (old_root, old, old_out), (new_root, changed, new_out):
    with open(out, "wb") as out:
        for name in names:
            with open(f"{root}/{name}", "rb") as content:
                while piece := content.read(1 << 20):
                    out.write(piece)
PYTHON
}

row() { echo "| $1 | $2 | $3 | $4 s | $5 MiB |"; }

# Runs a peer that makes $base/patch.
peer() {
    local pair=$1 name=$2
    shift 2
    rm -f "$base/patch"
    /usr/bin/time -o "$base/time" -f "%U %S %M" "$@" >/dev/null 2>"$base/err" || { row "$pair" "$name" failed - -; return; }
    row "$pair" "$name" "$(stat -c %s "$base/patch")" $(awk '{ printf "%.2f %d", $1 + $2, $3 / 1024 }' "$base/time")
}

module() {
    echo "import $1, sys; old, new, out = (sys.argv[1:]); $2; open(out, 'wb').write(patch)"
}
read_both='old, new = open(old, "rb").read(), open(new, "rb").read()'

echo "| pair | how | bytes | CPU | peak |"
echo "|---|---|---:|---:|---:|"
for pair; do
    for level in $levels; do
        "$base/delta_lab" "$lab/trees/$pair/old" "$lab/trees/$pair/new" "$level" >"$base/out"
        tail -n 1 "$base/out" | sed -E 's/.*: ([0-9]+) bytes; build ([0-9.]+) s CPU [0-9.]+ s ([0-9]+) MiB.*/\1 \2 \3/' >"$base/row"
        row "$pair" "$level" $(cat "$base/row")
    done
    gather "$lab/trees/$pair"
    for name in $peers; do
        case $name in
            zstd-*) peer "$pair" "$name" zstd -q "${name#zstd}" --long=31 --patch-from="$base/old" "$base/new" -o "$base/patch" ;;
            xdelta3) peer "$pair" "$name" xdelta3 -q -e -9 -S lzma -B 2147483648 -s "$base/old" "$base/new" "$base/patch" ;;
            hdiffpatch)
                code=$(module hdiffpatch "$read_both; patch = hdiffpatch.diff(old, new, compression='lzma2', validate=False)")
                peer "$pair" "$name" "$python" -c "$code" "$base/old" "$base/new" "$base/patch"
                ;;
            bsdiff)
                code=$(module bsdiff4 "$read_both; patch = bsdiff4.diff(old, new)")
                peer "$pair" "$name" "$python" -c "$code" "$base/old" "$base/new" "$base/patch"
                ;;
            *) echo "patches: no peer $name" >&2; exit 2 ;;
        esac
    done
done
