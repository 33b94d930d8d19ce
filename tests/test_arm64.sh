#!/bin/sh
# The scan's NEON kernel, built for arm64 and run by an emulator: it finds what the plain one finds.
# usage: test_arm64.sh FOLDER-FOR-THE-PROGRAM
set -eu
cd "$(dirname "$0")/.."
aarch64-linux-gnu-gcc -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -static -Iinclude \
    tests/arm64/kernels.c filters/redact/prefilter.c filters/redact/prefilter_buckets.c \
    filters/redact/prefilter_neon.c filters/redact/sample.c agent/base/buf.c -lpthread -o "$1/kernels-arm64"
qemu-aarch64-static "$1/kernels-arm64"
