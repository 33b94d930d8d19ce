#!/bin/sh
# Every interface header compiles alone, with warnings as errors; prints a line of counts.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
for header in include/taffrail/*.h; do
    if cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c "$header"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $header does not compile alone"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
