#!/bin/sh
# Runs every fuzz target, or those that are named, for FUZZ_SECONDS each. What was learnt stays in corpus/ for the next
# time; an input that breaks a target stays in crashes/, and `cargo run --release --bin TARGET FILE`, here, runs it again.
set -eu
cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
seconds=${FUZZ_SECONDS:-20}

command -v c++ >/dev/null || { echo "missing: c++, which compiles libFuzzer; on Debian: apt-get install g++" >&2; exit 1; }

# What Puppet wrote on real hosts, and the kernel, to begin with.
examples() {
    case $1 in
        log | report) echo ../../agent/tests/fixtures ;;
        oom) echo ../../proto/record/src/oom/texts ;;
    esac
}

[ $# -gt 0 ] || set -- $(basename -s .rs targets/*.rs)
$cargo build --release --locked
mkdir -p crashes
broken=
for target; do
    mkdir -p "corpus/$target"
    # shellcheck disable=SC2046 # no directory or one
    if $cargo run --quiet --release --locked --bin "$target" -- "corpus/$target" $(examples "$target") \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="crashes/$target-" >"crashes/$target.log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: //p' "crashes/$target.log") executions"
        rm "crashes/$target.log"
    else
        broken="$broken $target"
        tail -n 40 "crashes/$target.log" >&2
    fi
done
[ -z "$broken" ] || { echo "broken:$broken; see tests/fuzz/crashes" >&2; exit 1; }
