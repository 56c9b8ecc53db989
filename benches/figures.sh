#!/usr/bin/env bash
# Measures what updates cost, beside their peers in the same run, and prints a Markdown table of medians.
#
#   benches/figures.sh [BINARY] [RUNS]
#
# TMPDIR    a directory on a real disk, with 16 GiB free; nothing is left there (default /var/tmp)
# FIGURES   which figures, by number (default "1 2 3 4 5 6 7")
# ISOLATE   yes: on an ext4 image of its own in TMPDIR, so that nobody else's writes count (needs root; the default
#           there); no: in TMPDIR itself, without figure 5
# LAB       a directory with trees/NAME/old and trees/NAME/new of real updates, for figure 7
# PAIRS     their names (default "mui jarweb scipy zig qtwe kernel", those that are there)
# FILES, MANY, BIG_MIB   sizes: changed small files, files of the large tree, MiB of the big file
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

binary=${1:-target/release/surefoot}
runs=${2:-5}
figures=${FIGURES:-1 2 3 4 5 6 7}
files=${FILES:-10000}
many=${MANY:-200000}
big_mib=${BIG_MIB:-1024}
isolate=${ISOLATE:-$([ "$(id -u)" = 0 ] && echo yes || echo no)}

if [ ! -x "$binary" ]; then
    [ $# = 0 ] || { echo "figures: $binary is no program" >&2; exit 2; }
    cargo build --release
fi
for tool in python3 /usr/bin/time; do
    command -v "$tool" >/dev/null || { echo "figures: $tool is missing" >&2; exit 2; }
done

base=$(mktemp -d "${TMPDIR:-/var/tmp}/figures.XXXXXX")
case $(stat -f -c %T "$base") in
    tmpfs | ramfs) rmdir "$base"; echo "figures: TMPDIR is no disk" >&2; exit 2 ;;
esac
cp "$binary" "$base/surefoot"
surefoot=$base/surefoot
work=$base
loop=
cleanup() {
    cd /
    if [ -n "$loop" ]; then
        umount "$base/disk" 2>/dev/null || true
        losetup -d "$loop" || true
    fi
    rm -rf "$base"
}
trap 'status=$?; [ "$status" = 0 ] || cat "$base/out" "$base/err" >&2 2>/dev/null || true; cleanup; exit "$status"' EXIT
trap 'exit 130' INT TERM HUP

if [ "$isolate" = yes ]; then
    truncate -s 16G "$base/image"
    mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 -N 2000000 "$base/image"
    loop=$(losetup --find --show --direct-io=on "$base/image" 2>/dev/null || losetup --find --show "$base/image")
    mkdir "$base/disk"
    mount "$loop" "$base/disk"
    work=$base/disk
fi

# --- tools -----------------------------------------------------------------------------------------------------------

cat >"$base/tool.py" <<'PYTHON'
import filecmp, os, random, shutil, signal, subprocess, sys, time

def small(root, count, seed, low, high):
    """Files of random bytes, a hundred in each directory."""
    source = random.Random(int(seed))
    for n in range(int(count)):
        at = f"{root}/d{n // 100:04}"
        if n % 100 == 0:
            os.makedirs(at, exist_ok=True)
        with open(f"{at}/f{n % 100:02}", "wb") as out:
            out.write(source.randbytes(source.randint(int(low), int(high))))

def big(path, mib, seed):
    """A file that cannot be compressed."""
    source = random.Random(int(seed))
    with open(path, "wb") as out:
        for _ in range(int(mib)):
            out.write(source.randbytes(1 << 20))

def changed(old, new, out):
    """The files of a tree that are new or not as they were."""
    for at, _, names in os.walk(new):
        for name in names:
            path = os.path.join(at, name)
            before = os.path.join(old, os.path.relpath(path, new))
            known = os.path.isfile(before) and not os.path.islink(before)
            if os.path.islink(path) or known and filecmp.cmp(path, before, False):
                continue
            to = os.path.join(out, os.path.relpath(path, new))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy2(path, to)

def inodes(root):
    out = {}
    for at, dirs, names in os.walk(root):
        if ".surefoot" in dirs:
            dirs.remove(".surefoot")
        for name in names:
            path = os.path.join(at, name)
            out[path] = os.stat(path).st_ino
    return out

def interrupt(root, *command):
    """Kills a command when the file in the middle of the tree is new, and tells how many files are."""
    before = inodes(root)
    middle = sorted(before)[len(before) // 2]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        while os.stat(middle).st_ino == before[middle] and child.poll() is None:
            pass
        child.send_signal(signal.SIGKILL)
    after = inodes(root)
    print(sum(after[path] != inode for path, inode in before.items()))

def median(path):
    values = sorted(float(line) for line in open(path))
    half = len(values) // 2
    print(f"{values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2:g}")

def pairs(over, under):
    """The median and the range of the ratios of what was measured side by side."""
    read = lambda path: [float(line) for line in open(path)]
    ratios = sorted(a / b for a, b in zip(read(over), read(under)))
    half = len(ratios) // 2
    middle = ratios[half] if len(ratios) % 2 else (ratios[half - 1] + ratios[half]) / 2
    print(f"{middle:.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")

globals()[sys.argv[1]](*sys.argv[2:])
PYTHON
tool() { python3 "$base/tool.py" "$@"; }

wants() { [[ " $figures " == *" $1 "* ]]; }
say() { echo "figures: $*" >&2; }
calculate() { awk "BEGIN { printf \"$1\", $2 }"; }
# Everything of this file system, and nothing of others, is durable.
settle() { sync -f "$work"; }

# Runs a command and adds its wall time and its processor time, in seconds, to series.
clock() {
    local series=$base/series.$1 TIMEFORMAT='%R %U %S'
    shift
    { time "$@" >"$base/out" 2>"$base/err"; } 2>"$base/time"
    awk '{ print $1 }' "$base/time" >>"$series"
    awk '{ print $2 + $3 }' "$base/time" >>"$series.cpu"
}
note() { echo "$2" >>"$base/series.$1"; }
median() { tool median "$base/series.$1"; }
seconds() { calculate "%.2f s" "$(median "$1")"; }
both() { echo "$(seconds "$1") (CPU $(seconds "$1.cpu"))"; }
ratio() { calculate "%.2f" "$(median "$1") / $(median "$2")"; }
pairs() { tool pairs "$base/series.$1" "$base/series.$2"; }
ratios() { echo "$(ratio "$1" "$2") (run by run $(pairs "$1" "$2"); CPU $(ratio "$1.cpu" "$2.cpu"))"; }

# Peak memory of a command, in MiB.
memory() {
    /usr/bin/time -o "$base/memory" -f %M "$@" >"$base/out" 2>"$base/err"
    calculate "%.1f" "$(tail -1 "$base/memory") / 1024"
}

# Bytes that a command and the sync after it have written to the disk, in MiB.
written() {
    local name=${loop#/dev/} before after
    settle
    before=$(awk '{ print $7 }' "/sys/block/$name/stat")
    "$@" >"$base/out" 2>"$base/err"
    settle
    after=$(awk '{ print $7 }' "/sys/block/$name/stat")
    calculate "%.2f" "($after - $before) / 2048"
}

rows=()
row() { rows+=("| $1 | $2 | $3 | $4 | $5 |"); say "$1: $2; peer $3; ratio $4; target $5"; }

sf() { "$surefoot" -q "$@"; }
# A managed copy of a tree.
manage() {
    rm -rf "$2"
    cp -a "$1" "$2"
    sf --root "$2" init --version 1.0.0 --trust "$base/key.pub" >/dev/null
}
package() { sf build --no-prove --key "$base/key" --to 2.0.0 -o "$@"; }
apply() { sf --root "$1" apply "$2"; }
copy() { cp -a "$1/." "$2" && sync -f "$2"; }
untar() { tar -xf "$1" -C "$2" && sync -f "$2"; }
sums() { find "$1" -name .surefoot -prune -o -type f -print0 | xargs -0 -n 100 -P "$(nproc)" sha256sum; }

sf keygen -o "$base/key" >/dev/null

# --- the figures -----------------------------------------------------------------------------------------------------

small_trees() {
    [ ! -d "$work/old" ] || return 0
    say "making two trees of $files files"
    tool small "$work/old" "$files" 1 1024 4096
    tool small "$work/new" "$files" 2 1024 4096
    tar -cf "$work/new.tar" -C "$work/new" .
    package "$work/small.sf" --from 1.0.0 "$work/old" "$work/new" >/dev/null
}

timed_copy() { clock copy copy "$work/new" "$work/copy"; }
timed_untar() { clock untar untar "$work/new.tar" "$work/untarred"; }

figure_1() {
    small_trees
    local n peers
    for ((n = 0; n < runs; n++)); do
        rm -rf "$work/copy" "$work/untarred"
        mkdir "$work/copy" "$work/untarred"
        manage "$work/old" "$work/device"
        # The peers take turns, so that neither always has the better place.
        if ((n % 2 == 0)); then peers=(copy untar); else peers=(untar copy); fi
        settle
        "timed_${peers[0]}"
        settle
        clock apply apply "$work/device" "$work/small.sf"
        settle
        "timed_${peers[1]}"
        settle
        clock rollback sf --root "$work/device" rollback
    done
    row "1. apply of $files changed files, durable" "$(both apply)" "\`cp -a\` + sync: $(both copy)" \
        "$(ratios apply copy)" "<= 1.3"
    row "1. the same" "$(both apply)" "\`tar -x\` + sync: $(both untar)" "$(ratios apply untar)" ""
    row "1. rollback of it" "$(both rollback)" "\`cp -a\` + sync: $(both copy)" "$(ratios rollback copy)" ""
    say "seconds of each run: cp $(paste -sd' ' "$base/series.copy"); tar $(paste -sd' ' "$base/series.untar");" \
        "apply $(paste -sd' ' "$base/series.apply")"
    rm -rf "$work/copy" "$work/untarred"
}

figure_2() {
    small_trees
    local n
    for ((n = 0; n < runs; n++)); do
        manage "$work/old" "$work/device"
        settle
        note steps "$(tool interrupt "$work/device" "$surefoot" -q --root "$work/device" apply "$work/small.sf")"
        clock recover sf --root "$work/device" recover
        diff -r -x .surefoot "$work/device" "$work/new" >&2
    done
    row "2. recovery of $files steps, $(median steps) done when killed" "$(both recover)" "" "" "< 2 s"
    [ -n "$loop" ] || return 0
    for ((n = 0; n < runs; n++)); do
        manage "$work/old" "$work/device"
        settle
        note cold-steps "$(tool interrupt "$work/device" "$surefoot" -q --root "$work/device" apply "$work/small.sf")"
        umount "$work"
        mount "$loop" "$work"
        clock cold-recover sf --root "$work/device" recover
        diff -r -x .surefoot "$work/device" "$work/new" >&2
    done
    row "2. the same with cold caches, $(median cold-steps) done" "$(both cold-recover)" "" "" "< 2 s"
}

big_file() {
    [ ! -f "$work/big" ] || return 0
    say "making a file of $big_mib MiB"
    tool big "$work/big" "$big_mib" 3
}

figure_3() {
    small_trees
    big_file
    rm -rf "$work/device"
    cp -a "$work/old" "$work/device"
    cp "$work/big" "$work/device/big"
    sf --root "$work/device" init --version 1.0.0 --trust "$base/key.pub" >/dev/null
    settle
    local n bytes
    for ((n = 0; n < runs; n++)); do
        clock sums sums "$work/device"
        clock verify sf --root "$work/device" verify
        clock quick sf --root "$work/device" verify --quick
    done
    bytes=$(du -sb --exclude .surefoot "$work/device" | cut -f1)
    row "3. verify of $files files and one of $big_mib MiB" \
        "$(seconds verify), $(calculate "%.0f MB/s" "$bytes / $(median verify) / 1e6")" \
        "\`sha256sum\` on all cores: $(seconds sums), $(calculate "%.0f MB/s" "$bytes / $(median sums) / 1e6")" \
        "$(ratio verify sums)" ""
    row "3. the same, --quick" "$(seconds quick)" "" "" ""
    rm -rf "$work/device"
}

figure_4() {
    big_file
    rm -rf "$work/device" "$work/full"
    mkdir "$work/full" "$work/device"
    cp "$work/big" "$work/full/big"
    echo old >"$work/device/big"
    row "4. memory of build --full, one file of $big_mib MiB" \
        "$(memory "$surefoot" -q build --full "$work/full" --to 2.0.0 --key "$base/key" --no-prove -o "$work/full.sf") MiB" "" "" ""
    sf --root "$work/device" init --version 1.0.0 --trust "$base/key.pub" >/dev/null
    row "4. memory of apply of it" "$(memory "$surefoot" -q --root "$work/device" apply "$work/full.sf") MiB" "" "" "< 32 MiB"
    row "4. memory of verify of it" "$(memory "$surefoot" -q --root "$work/device" verify) MiB" "" "" ""
    rm -rf "$work/full" "$work/full.sf" "$work/device"

    say "making two trees of $many files"
    tool small "$work/many" "$many" 4 100 300
    cp -a "$work/many" "$work/many.new"
    tool small "$work/many.new" 100 5 100 300
    row "4. memory of build, 100 of $many files changed" \
        "$(memory "$surefoot" -q build "$work/many" "$work/many.new" --from 1.0.0 --to 2.0.0 --key "$base/key" --no-prove -o "$work/many.sf") MiB" \
        "" "" ""
    rm -rf "$work/many.new"
    row "4. memory of init, $many files" \
        "$(memory "$surefoot" -q --root "$work/many" init --version 1.0.0 --trust "$base/key.pub") MiB" "" "" ""
    settle
    local start=$EPOCHREALTIME
    row "4. memory of apply of it" "$(memory "$surefoot" -q --root "$work/many" apply "$work/many.sf") MiB" "" "" "< 128 MiB"
    row "4. time of apply of it, one run" "$(calculate "%.2f s" "$EPOCHREALTIME - $start")" "" "" ""
    row "4. memory of verify of it" "$(memory "$surefoot" -q --root "$work/many" verify) MiB" "" "" ""
    row "4. memory of rollback of it" "$(memory "$surefoot" -q --root "$work/many" rollback) MiB" "" "" ""
    rm -rf "$work/many" "$work/many.sf"
}

figure_5() {
    if [ -z "$loop" ]; then
        say "figure 5 needs an image of its own (ISOLATE=yes, as root)"
        return 0
    fi
    local peer ours
    mkdir -p "$work/a" "$work/b" "$work/moved"
    tool big "$work/a/data" 256 6
    tool big "$work/b/data" 256 7
    cp "$work/a/data" "$work/moved/other"
    package "$work/replace.sf" --from 1.0.0 "$work/a" "$work/b" >/dev/null
    package "$work/move.sf" --from 1.0.0 "$work/a" "$work/moved" >/dev/null
    peer=$(written cp "$work/b/data" "$work/copied")
    manage "$work/a" "$work/device"
    ours=$(written apply "$work/device" "$work/replace.sf")
    row "5. written for 256 MiB replaced" "$ours MiB, $(calculate "%.3f" "$ours / 256") a byte" \
        "\`cp\` + sync: $peer MiB" "$(calculate "%.3f" "$ours / $peer")" "<= 1.05"
    manage "$work/a" "$work/device"
    row "5. written for 256 MiB moved" "$(written apply "$work/device" "$work/move.sf") MiB" "" "" "about 0"
    rm -rf "$work/a" "$work/b" "$work/moved" "$work/copied" "$work/device" "$work/replace.sf" "$work/move.sf"
    small_trees
    mkdir "$work/copy"
    peer=$(written cp -a "$work/new/." "$work/copy")
    manage "$work/old" "$work/device"
    ours=$(written apply "$work/device" "$work/small.sf")
    row "5. written for $files small files" "$ours MiB" "\`cp -a\` + sync: $peer MiB" \
        "$(calculate "%.3f" "$ours / $peer")" ""
    rm -rf "$work/copy" "$work/device"
}

barriers() {
    strace -f -e trace=sync,syncfs,fsync,fdatasync,sync_file_range -o "$base/calls" "$surefoot" -q --root "$1" apply "$2" >"$base/out"
    grep -cE '(sync|fdatasync|syncfs|sync_file_range)\(' "$base/calls" || true
}

figure_6() {
    if ! command -v strace >/dev/null; then
        say "figure 6 needs strace"
        return 0
    fi
    tool small "$work/ten" 10 8 1024 4096
    tool small "$work/ten.new" 10 9 1024 4096
    package "$work/ten.sf" --from 1.0.0 "$work/ten" "$work/ten.new" >/dev/null
    manage "$work/ten" "$work/device"
    row "6. barriers, 10 changed files" "$(barriers "$work/device" "$work/ten.sf")" "" "" "<= 4"
    small_trees
    manage "$work/old" "$work/device"
    row "6. barriers, $files changed files" "$(barriers "$work/device" "$work/small.sf")" "" "" "<= 4"
    rm -rf "$work/ten" "$work/ten.new" "$work/ten.sf" "$work/device"
}

# Two trees are the same in content, modes, owners, links and attributes.
same() { "$surefoot" --json diff "$1" "$2" | grep '"same":true' >"$base/out"; }

figure_7() {
    local pair name n bytes peak
    [ -n "${LAB:-}" ] || return 0
    for name in ${PAIRS:-mui jarweb scipy zig qtwe kernel}; do
        pair=$LAB/trees/$name
        [ -d "$pair/old" ] && [ -d "$pair/new" ] || continue
        say "$name"
        clock "$name-build" package "$work/pair.sf" --from 1.0.0 "$pair/old" "$pair/new"
        bytes=$(stat -c %s "$work/pair.sf")
        tool changed "$pair/old" "$pair/new" "$work/changed"
        tar -cf "$work/changed.tar" -C "$work/changed" .
        for ((n = 0; n < runs; n++)); do
            rm -rf "$work/copy" "$work/untarred"
            mkdir "$work/copy" "$work/untarred"
            manage "$pair/old" "$work/device"
            settle
            clock "$name-copy" copy "$work/changed" "$work/copy"
            settle
            clock "$name-apply" apply "$work/device" "$work/pair.sf"
            settle
            clock "$name-untar" untar "$work/changed.tar" "$work/untarred"
            [ "$n" -gt 0 ] || same "$work/device" "$pair/new"
            settle
            clock "$name-rollback" sf --root "$work/device" rollback
            [ "$n" -gt 0 ] || same "$work/device" "$pair/old"
        done
        peak=$(memory "$surefoot" -q --root "$work/device" apply "$work/pair.sf")
        row "7. $name: package of $bytes bytes" "built in $(both "$name-build")" "" "" ""
        row "7. $name: apply, $(du -sm "$work/changed" | cut -f1) MiB changed" "$(both "$name-apply"), $peak MiB" \
            "\`cp\` of the changed files + sync: $(both "$name-copy")" "$(ratios "$name-apply" "$name-copy")" "<= 1.5"
        row "7. $name: the same" "$(both "$name-apply")" "\`tar -x\` of them + sync: $(both "$name-untar")" \
            "$(ratios "$name-apply" "$name-untar")" "<= 1"
        row "7. $name: rollback" "$(both "$name-rollback")" "" "" ""
        rm -rf "$work/device" "$work/pair.sf" "$work/copy" "$work/untarred" "$work/changed" "$work/changed.tar"
    done
}

for number in 1 2 3 4 5 6 7; do
    if wants "$number"; then
        say "figure $number (load $(cut -d' ' -f1 /proc/loadavg))"
        "figure_$number"
    fi
done

place="the file system of TMPDIR"
[ -z "$loop" ] || place="an ext4 image of its own"
echo "$("$surefoot" --version), medians of $runs runs, $(nproc) cores, $(findmnt -n -o FSTYPE -T "$work") ($place), Linux $(uname -r)"
echo
echo "| figure | surefoot | peer | ratio | target |"
echo "|---|---|---|---|---|"
printf '%s\n' "${rows[@]}"
