#!/usr/bin/env bash
# Measures download and verification of one big file from nginx on the loopback, beside `curl -o` and `sha256sum`, and
# prints a Markdown table: medians of interleaved runs, and the largest resident set. Then `update` of a full package from
# a repository of which the first copy has another byte in one megabyte, and from a good one: bytes served of the package.
#
#   benches/download.sh [RUNS]
#
# TMPDIR    a directory with twice the size free (default /var/tmp)
# BIG_MIB   size of the file (default 1024)
# FULL_MIB  size of the full package (default 256)
set -euo pipefail
export LC_ALL=C
runs=${1:-5}
mib=${BIG_MIB:-1024}
full=${FULL_MIB:-256}
export PATH="$PATH:/usr/sbin"
for tool in nginx curl python3 /usr/bin/time; do
    command -v "$tool" > /dev/null || { echo "download: $tool is missing" >&2; exit 2; }
done
cargo build --release --all-features --bins --example fetch_file
program=$PWD/target/release/examples/fetch_file
surefoot=$PWD/target/release/surefoot

work=$(mktemp -d "${TMPDIR:-/var/tmp}/download.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
mkdir "$work/www" "$work/curl" "$work/ours"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$work/nginx.conf" <<END
$([ "$(id -u)" != 0 ] || echo "user root;")
daemon off; master_process off; pid $work/pid; error_log $work/error.log;
events { worker_connections 64; }
http {
  log_format served '\$uri \$body_bytes_sent'; access_log off; sendfile on;
  client_body_temp_path $work/a; proxy_temp_path $work/b; fastcgi_temp_path $work/c; uwsgi_temp_path $work/d;
  scgi_temp_path $work/e;
  server {
    listen 127.0.0.1:$port; root $work/www;
    location ~ /targets/ { access_log $work/served served; }
  }
}
END
head -c "${mib}M" /dev/urandom > "$work/www/file"
digest=$(sha256sum < "$work/www/file" | cut -d' ' -f1)
nginx -p "$work" -c "$work/nginx.conf" -e "$work/error.log" &
server=$!
url=http://127.0.0.1:$port/file
until curl -sI "$url" > /dev/null; do sleep 0.1; done

clock() { # file of seconds, command...
    local out=$1
    shift
    sync -f "$work"
    /usr/bin/time -f '%e %M' -o "$work/time" "$@" > /dev/null
    cat "$work/time" >> "$out"
}
peer() { curl -s -o "$work/curl/file" "$url" && echo "$digest  $work/curl/file" | sha256sum -c --quiet -; }
export -f peer
export work url digest
for _ in $(seq "$runs"); do
    rm -f "$work"/curl/* "$work"/ours/*
    clock "$work/peer" bash -c peer
    rm -f "$work"/curl/*
    clock "$work/us" "$program" "$url" "$digest" "$work/ours"
done
python3 - "$work/peer" "$work/us" "$mib" <<'END'
import statistics, sys
peer, us = ([tuple(map(float, line.split())) for line in open(name)] for name in sys.argv[1:3])
seconds = [statistics.median(run[0] for run in runs) for runs in (us, peer)]
ratios = sorted(theirs[0] / ours[0] for ours, theirs in zip(us, peer))
print("| figure | surefoot | peer | speed | target |\n|---|---|---|---|---|")
print(f"| download and verify {sys.argv[3]} MiB | {seconds[0]:.2f} s | `curl -o`, `sha256sum`: {seconds[1]:.2f} s | "
      f"{seconds[1] / seconds[0]:.2f} (run by run {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}) | >= 0.8 |")
print(f"| memory of it | {max(run[1] for run in us) / 1024:.1f} MiB | | | < 32 MiB |")
END

# A corrupted megabyte costs a megabyte.
cd "$work"
mkdir tree device
head -c "${full}M" /dev/urandom | split -b 4M - tree/file
{
    "$surefoot" keygen -o key
    "$surefoot" repo init www/good --key key
    "$surefoot" -q build --full tree --to 1.1.0 --owner no --no-prove -o full.sf
    "$surefoot" repo add www/good full.sf --key key
    "$surefoot" --root device init --version 1.0.0 --trust www/good/metadata/1.root.json --owner no
} > /dev/null
cp -a www/good www/bad
package=$(echo www/bad/targets/any/1.1.0/*)
length=$(stat -c %s "$package")
python3 - "$package" "$((length / 2))" <<'END'
import sys
with open(sys.argv[1], "r+b") as package:
    package.seek(int(sys.argv[2]))
    byte = package.read(1)[0]
    package.seek(int(sys.argv[2]))
    package.write(bytes([byte ^ 1]))
END
"$surefoot" --root device -q update --from "${url%/file}/bad" --mirror "${url%/file}/good" > /dev/null
diff -r --exclude .surefoot tree device
python3 - served "$length" <<'END'
import collections, sys
served = collections.Counter()
for line in open(sys.argv[1]):
    path, sent = line.split()
    served[path.split("/")[1]] += int(sent)
length, total = int(sys.argv[2]), sum(served.values())
print(f"| full package of {length} bytes, one byte of it wrong at one of two mirrors | {total} bytes served, {served['bad']} by "
      f"that one, {served['good']} by the other | | {total / length:.4f} of the package | |")
END
