#!/bin/sh
# Packs built binaries as .deb and .rpm: build.sh [--fast] BINARIES OUTPUT [VERSION]
#
# BINARIES is where cargo put `agent`, `recorder` and `ctl`, such as target/release; the packagers are in ../tools beside it
# (tools.sh). VERSION replaces the one in Cargo.toml; --fast packs in a tenth of the time into larger files. Prints what
# it made. The same binaries at the same commit give the same bytes.
set -eu
deb_options=''
rpm_options=''
if [ "$1" = --fast ]; then
    deb_options=--fast
    rpm_options='--payload-compress gzip'
    shift
fi
binaries=$(realpath "$1")
mkdir -p "$2"
output=$(realpath "$2")
version=${3:-}
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
PATH="$binaries/../tools/bin:$PATH"
umask 022

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# What the packages take besides the repository's own files, laid out as a target directory: both packagers replace
# the prefix target/release of their lists with the place that they are told.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
files=$stage/release
mkdir -p "$files/man" "$files/completions"

for program in agent recorder ctl; do
    strip -o "$files/$program" "$binaries/$program"
done
"$files/ctl" manual "$files/man"
cp deploy/packages/agent.8 "$files/man/magpie-agent.8"
gzip -9n "$files"/man/*
for shell in bash zsh fish; do
    "$files/ctl" completions "$shell" >"$files/completions/ctl.$shell"
done

# CHANGELOG.md in Debian's form (deb-changelog(5)): its newest section is this version's entry.
: "${version:=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)}"
for package in magpie-agent magpie-ctl; do
    {
        printf '%s (%s) unstable; urgency=medium\n\n' "$package" "$version"
        awk '/^## / { if (seen++) exit } /^- / { sub("-", "  *"); print; next } /^  / { print "  " $0 }' CHANGELOG.md
        printf '\n -- Magpie maintainers <maintainers@magpie.invalid>  %s\n' "$(LC_ALL=C date -uR -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n >"$files/$package.changelog.gz"
done

# shellcheck disable=SC2086 # options are lists of words
for crate in agent controller; do
    CARGO_TARGET_DIR="$stage" cargo-deb --quiet --package "$crate" --no-build --no-strip \
        --deb-version "$version" --output "$output" $deb_options >/dev/null
    cargo-generate-rpm --package "$crate" --target-dir "$stage" --output "$output" \
        $rpm_options --set-metadata "version = \"$version\""
done
ls "$output"/magpie-*"$version"*
