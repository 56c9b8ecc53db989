#!/usr/bin/env bash
# Measures the memory of building patches under a cap: of one very large file, and of very many small ones.
#
#   benches/memory.sh [BINARY]
#
# TMPDIR    room for it: little, since the large file has holes (default /var/tmp)
# CAPS      values of --max-memory in MiB (default "512 2048")
# LEVELS    levels (default "fast default")
# GIB, FILES    sizes: the large file, the number of small ones (default 4, 200000)
set -euo pipefail
export LC_ALL=C

binary=$(realpath "${1:-target/release/surefoot}")
base=$(mktemp -d "${TMPDIR:-/var/tmp}/memory.XXXXXX")
trap 'rm -rf "$base"' EXIT
trap 'exit 130' INT TERM HUP

python3 - "$base" "${GIB-4}" "${FILES-200000}" <<'PYTHON'
import os, random, sys
base, gib, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = random.Random(1)
os.makedirs(f"{base}/large/old"), os.makedirs(f"{base}/large/new")
# Islands in zeros, all of them moved by some bytes, and one byte in 4096 of each changed.
with open(f"{base}/large/old/file", "wb") as old, open(f"{base}/large/new/file", "wb") as new:
    for at in range(0, gib << 30, 8 << 20):
        island = source.randbytes(256 << 10)
        changed = bytearray(island)
        for place in range(0, len(changed), 4096):
            changed[place] ^= 1
        old.seek(at), old.write(island)
        new.seek(at + 4321), new.write(changed)
    old.truncate(gib << 30), new.truncate((gib << 30) + 4321)
for number in range(files):
    folder = f"d{number // 500:04}"
    content = source.randbytes(400)
    for side in "old", "new":
        path = f"{base}/many/{side}/{folder}"
        if number % 500 == 0:
            os.makedirs(path)
        with open(f"{path}/{number}", "wb") as out:
            out.write(content + b"more" if side == "new" and number % 10 == 0 else content)
PYTHON

echo "| what | level | cap | peak | CPU | package |"
echo "|---|---|---:|---:|---:|---:|"
for what in large many; do
    for level in ${LEVELS-fast default}; do
        for cap in ${CAPS-512 2048}; do
            /usr/bin/time -o "$base/time" -f "%M %U %S" "$binary" -q build --no-prove --level "$level" --max-memory "$cap" \
                --from 1.0.0 --to 2.0.0 -o "$base/package" "$base/$what/old" "$base/$what/new" >/dev/null
            set -- $(cat "$base/time")
            echo "| $what | $level | $cap MiB | $(($1 / 1024)) MiB | $(echo "$2 $3" | awk '{ printf "%.1f s", $1 + $2 }')" \
                "| $(stat -c %s "$base/package") |"
        done
    done
done
