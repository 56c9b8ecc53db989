#!/usr/bin/env bash
# Measures download and verification of one big file from nginx on the loopback, beside `curl -o` and `sha256sum`, and
# prints a Markdown table: medians of interleaved runs, and the largest resident set.
#
#   benches/download.sh [RUNS]
#
# TMPDIR    a directory with twice the size free (default /var/tmp)
# BIG_MIB   size of the file (default 1024)
set -euo pipefail
export LC_ALL=C
runs=${1:-5}
mib=${BIG_MIB:-1024}
export PATH="$PATH:/usr/sbin"
for tool in nginx curl python3 /usr/bin/time; do
    command -v "$tool" > /dev/null || { echo "download: $tool is missing" >&2; exit 2; }
done
cargo build --release --all-features --example fetch_file
program=$PWD/target/release/examples/fetch_file

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
  access_log off; sendfile on;
  client_body_temp_path $work/a; proxy_temp_path $work/b; fastcgi_temp_path $work/c; uwsgi_temp_path $work/d;
  scgi_temp_path $work/e;
  server { listen 127.0.0.1:$port; root $work/www; }
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
