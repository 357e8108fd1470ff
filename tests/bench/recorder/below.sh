#!/bin/sh
# Builds below, one of the recorders that are compared, into a directory, once: below.sh DIR
# It needs the headers of libelf and zlib, and a clang newer than 14, which fails on its BPF program. Where it cannot be built, its rows
# are left out.
set -eu
version=0.9.0
mkdir -p "$1"
tools=$(realpath "$1")
CLANG=$(command -v clang-19 || command -v clang || true)
export CLANG

grep -qs "^\"below $version " "$tools/.crates.toml" ||
    CARGO_TARGET_DIR="$tools/build" nice "${CARGO:-cargo}" install --quiet --locked --root "$tools" --version "$version" below ||
    echo "below $version cannot be built here, and is left out" >&2
rm -rf "$tools/build"
