#!/bin/sh
# Builds Magpie without what takes long, then shows its main use on this machine: makes a fleet and an image, provisions a
# database host, queries its PostgreSQL, and reads its flight record. Can be run again: it releases the previous host, and
# `ctl provision` reuses it. Called by `make demo` with cargo's target directory.
set -eu
here=$(realpath "$(dirname "$0")")
mkdir -p "$1/demo"
target=$(realpath "$1")
ctl=$target/demo/ctl
fleet=$target/demo-fleet

say() { printf '\n\033[1m$ ctl %s\033[0m\n' "$*"; }
run() { say "$@"; "$ctl" "$@"; }
# All packages are selected each time: another selection has other features, and would compile dependencies again.
build() {
    "${CARGO:-cargo}" build --manifest-path "$here/../Cargo.toml" --target-dir "$target" --profile demo --locked \
        --workspace --exclude tests --no-default-features "$@"
}

# Packages are installed while the controller is compiled, and the base of the image is made while the agent is.
sh "$here/prerequisites.sh" &
prerequisites=$!
build --bin ctl
wait "$prerequisites"

mkdir -p "$fleet"
cd "$fleet"
if [ ! -e magpie.toml ]; then
    run init --name demo
    sed -i "s|^path = .*|path = \"$here/../puppet\"|" magpie.toml
fi
"$ctl" bake --base &
base=$!
build --bins
wait "$base"
echo "This ctl has no provider ec2, and neither ctl nor agent is optimised: 'make release' builds all of it."

old=$("$ctl" hosts --output json | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
# shellcheck disable=SC2086 # host names are single words
[ -z "$old" ] || run release $old

run bake
started=$(date +%s)
run provision --role db
echo "provisioned in $(($(date +%s) - started)) s"

run run db-1 -- runuser -u postgres -- psql -Atc "select 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')"
run cpu-log db-1 --since 1m --top 3 | tail -n 6
run hosts

cat <<TEXT

The host db-1 is up. Try next, in $fleet:
  ctl status db-1
  ctl apply db-1 --noop                  # what would change
  ctl run db-1 -- journalctl -n 20
  ctl cpu-log db-1 --follow
  ctl provision --role web --count 2 --memory 613M
  ctl destroy db-1
with ctl = $ctl
TEXT
