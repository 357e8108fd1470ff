#!/bin/sh
# Compiles the packagers, cargo-deb and cargo-generate-rpm, into a directory, once: tools.sh DIR
set -eu
mkdir -p "$1"
tools=$(realpath "$1")

# They run for seconds: what their own profile spends on optimising costs minutes.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

want() {
    [ "$("$tools/bin/$1" --version 2>/dev/null | sed -n 's/^\([^ ]* \)\{0,1\}\([0-9.]*\).*/\2/p')" = "$2" ] ||
        CARGO_TARGET_DIR="$tools/build" "${CARGO:-cargo}" install --quiet --locked --root "$tools" --version "$2" "$1"
}
want cargo-deb 3.8.0
want cargo-generate-rpm 0.21.1
rm -rf "$tools/build"
