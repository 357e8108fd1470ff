#!/bin/sh
# Runs every test: builds all once, then runs independent suites side by side. Prints the output of each lane when the lane
# has finished. Called by `make test`.
set -u
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo} test --workspace --locked --no-fail-fast"
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT

$cargo --no-run --lib --bins --tests || exit 1

# lane NAME SELECTION...: runs selections of tests one after the other.
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

# Suites with real hosts mostly wait for boots, so two lanes are enough to keep two processors busy.
lane hosts "--test e2e" &
hosts=$!
lane others "--lib --bins" "--test generated --test pki --test certificates --test runs --test identity" \
    "--test local_provider" "--test ec2"
show others
wait "$hosts"
show hosts
# Alone: outage depends on timing, packages installs what other suites have baked in, residue compares the machine before and
# after.
lane alone "--test outage" "--test packages" "--test residue"
show alone
! grep -h "^FAILED: " "$said"/*
