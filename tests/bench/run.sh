#!/bin/sh
# Runs all benchmarks and rewrites RESULTS.md beside this file, if every one of them succeeded. Called by `make bench`.
set -eu
cd "$(dirname "$0")"

new=$(mktemp ./RESULTS.XXXXXX)
trap 'rm -f "$new"' EXIT
trap 'exit 130' INT TERM
chmod 644 "$new"

measure() {
    "${CARGO:-cargo}" run --quiet --release --locked -p tests --bin "$1" >>"$new"
}

cat >"$new" <<END
# Results

Written by \`make bench\` on $(date -u +%Y-%m-%d): $(nproc) cores, $(awk '/^MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, \
$(uname -s) $(uname -r), $(df --output=fstype "${TMPDIR:-/tmp}" | tail -n 1), load $(cut -d ' ' -f 1 /proc/loadavg) when it began. Everything compared is \
measured in the same run, in turn; figures of different machines or days do not compare.

END
measure bench-push
measure bench-hosts
sh recorder/below.sh "${CARGO_TARGET_DIR:-../../target}/tools"
measure bench-recorder
mv "$new" RESULTS.md
