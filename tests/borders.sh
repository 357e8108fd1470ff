#!/bin/sh
# Proves the borders between crates that ARCHITECTURE.md lists, and that every crate uses all its declared dependencies.
set -eu
cd "$(dirname "$0")/.."
failed=0
fail() {
    echo "$1" >&2
    failed=1
}

# The recorder is locked in memory on every host, so it must not pull in network code; the contract depends on neither side.
reached=$(mktemp)
trap 'rm -f "$reached"' EXIT
refuse() {
    package=$1
    shift
    "${CARGO:-cargo}" tree --quiet --locked --package "$package" --edges normal --prefix none --format '{p}' >"$reached"
    for foreign in "$@"; do
        ! grep -q "^$foreign " "$reached" || fail "the crate $package must not reach $foreign"
    done
}
refuse record tokio tonic rustls hyper clap prost proto recorder agent controller
refuse recorder tokio tonic rustls hyper clap prost proto agent controller
refuse proto tokio-rustls clap recorder agent controller
refuse agent controller
refuse controller recorder agent

# A dependency counts as used if its name is followed by `::`, `;` or ` as `.
for manifest in proto/Cargo.toml proto/record/Cargo.toml agent/Cargo.toml agent/recorder/Cargo.toml controller/Cargo.toml tests/Cargo.toml; do
    folder=$(dirname "$manifest")
    case $folder in
        tests) sources=$folder ;;
        *) sources="$folder/src $([ ! -d "$folder/tests" ] || echo "$folder/tests")" ;;
    esac
    for dependency in $(sed -n '/dependencies\]$/,/^$/s/^\([a-z][a-z0-9_-]*\)[. ].*/\1/p' "$manifest" | sort -u); do
        name=$(echo "$dependency" | tr - _)
        # shellcheck disable=SC2086 # a list of folders
        grep -rqE --include='*.rs' "(^|[^a-zA-Z0-9_])$name(::|;| as )" $sources || fail "$manifest: $dependency is not used"
    done
done
exit "$failed"
