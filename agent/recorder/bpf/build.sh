#!/bin/sh
# Compiles the BPF program; `make gen` calls it. Give another file to write there.
# The compiler is Debian 12's, so that everybody gets the same bytes; debug information but BTF is taken out again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
object=${1:-$here/tasks.bpf.o}
case $object in /*) ;; *) object=$(pwd)/$object ;; esac

# In this directory, so that no path gets into the object.
cd "$here"
clang-14 -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -ffile-compilation-dir=. -c tasks.bpf.c -o "$object"
llvm-strip-14 -g "$object"
