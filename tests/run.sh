#!/bin/sh
# Runs every test: builds them all once, then runs suites side by side that share nothing but the processor. Prints what
# each lane said when it is over. Called by `make test`.
set -u
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo} test --workspace --locked --no-fail-fast"
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT

$cargo --no-run --lib --bins --tests || exit 1

# lane NAME ARGUMENTS...: one after the other, each a selection of tests.
lane() {
    name=$1
    shift
    for selection in "$@"; do
        # shellcheck disable=SC2086 # a selection is several words
        $cargo $selection || echo "FAILED: $selection"
    done >"$said/$name" 2>&1
}
show() {
    cat "$said/$1"
}

# Hosts on this machine wait much, for their boots; so two lanes of them fill two processors.
lane hosts "--test e2e" &
hosts=$!
lane others "--lib --bins" "--test generated --test pki --test certificates --test runs --test identity" \
    "--test local_provider" "--test ec2"
show others
wait "$hosts"
show hosts
# By themselves: one is about time, one installs what the others have baked in, and one compares the machine before and after.
lane alone "--test outage" "--test packages" "--test residue"
show alone
! grep -h "^FAILED: " "$said"/*
