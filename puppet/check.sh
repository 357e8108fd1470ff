#!/bin/sh
# Checks the example: manifests parse and follow puppet-lint's style; templates and data are well-formed.
set -eu
cd "$(dirname "$0")"
for tool in puppet puppet-lint; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: make prerequisites-test installs it" >&2; exit 1; }
done
find . -name '*.pp' -exec puppet parser validate {} +
find . -name '*.epp' -exec puppet epp validate {} +
puppet-lint --fail-on-warnings .
find . -name '*.yaml' -exec ruby -ryaml -e 'ARGV.each { |file| YAML.safe_load(File.read(file), aliases: true) }' {} +
