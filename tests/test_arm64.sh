#!/bin/sh
# Built for arm64 and run by an emulator: the scan's NEON kernel finds what the plain one finds; and a program of the hardened
# build, with the flags that this machine has.
# usage: test_arm64.sh FOLDER-FOR-THE-PROGRAMS
set -eu
cd "$(dirname "$0")/.."
compiler=aarch64-linux-gnu-gcc
$compiler -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -static -Iinclude \
    tests/arm64/kernels.c filters/redact/prefilter.c filters/redact/prefilter_buckets.c \
    filters/redact/prefilter_neon.c filters/redact/sample.c agent/base/buf.c -lpthread -o "$1/kernels-arm64"
qemu-aarch64-static "$1/kernels-arm64"

# Its libraries are not here for arm64, so CMake is shown this machine's; own-folder needs none.
cmake --preset release -B "$1/arm64" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=$compiler \
    -DZLIB_LIBRARY="$(gcc -print-file-name=libz.so)" >"$1/arm64.log"
cmake --build "$1/arm64" --target own-folder >>"$1/arm64.log"
grep -q -- '-mbranch-protection=standard .*own_folder' "$1/arm64/compile_commands.json"
if grep -q -- -fcf-protection "$1/arm64/compile_commands.json"; then
    echo "FAIL a flag of x86 is used"
    exit 1
fi
qemu-aarch64-static -L /usr/aarch64-linux-gnu "$1/arm64/own-folder" 2>&1 | grep -q 'own-folder FOLDER'
grep -q -- -fcf-protection build/release/compile_commands.json || [ "$(uname -m)" != x86_64 ]
echo "a hardened program for arm64 is built and starts"
