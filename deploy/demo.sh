#!/bin/sh
# Shows the main use on this machine: makes a fleet and an image, provisions a database host, queries its PostgreSQL, and
# reads its flight record. Can be run again: it destroys the previous host and provisions a new one.
set -eu
ctl=$(realpath "$1")
puppet=$(realpath "$(dirname "$0")/../puppet")
fleet=$(dirname "$ctl")/../demo

say() { printf '\n\033[1m$ ctl %s\033[0m\n' "$*"; }
run() { say "$@"; "$ctl" "$@"; }

mkdir -p "$fleet"
cd "$fleet"
if [ ! -e magpie.toml ]; then
    run init --name demo
    sed -i "s|^path = .*|path = \"$puppet\"|" magpie.toml
fi
old=$("$ctl" hosts --output json | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
# shellcheck disable=SC2086 # host names are single words
[ -z "$old" ] || run destroy --yes $old

run bake
started=$(date +%s)
run provision --role db
echo "provisioned in $(($(date +%s) - started)) s"

run run db-1 -- runuser -u postgres -- psql -Atc "select 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')"
run cpu-log db-1 --since 1m --top 3 | tail -n 6
run hosts

cat <<TEXT

The host db-1 is up. Try next, in $(pwd):
  ctl status db-1
  ctl apply db-1 --noop                  # what would change
  ctl run db-1 -- journalctl -n 20
  ctl cpu-log db-1 --follow
  ctl provision --role web --count 2 --memory 613M
  ctl destroy db-1
with ctl = $ctl
TEXT
