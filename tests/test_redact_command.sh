#!/bin/sh
# taffrail redact as a user runs it: what comes out, what is explained, how it exits.
# usage: test_redact_command.sh TAFFRAIL
set -u
taffrail=$1
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

expect() { # NAME WANTED GOT
    if [ "$2" != "$3" ]; then
        echo "FAIL $1: wanted '$2', got '$3'"
        failed=1
    fi
}

secret=AKIA"Z7QX4M2NPR5T6WUV"
printf 'first\nkey %s end\nlast' "$secret" >"$folder/in"
expect masks "first
key [REDACTED:aws-access-key] end
last" "$("$taffrail" redact <"$folder/in")"
"$taffrail" redact --explain <"$folder/in" >/dev/null 2>"$folder/explained"
expect explains 1 "$(grep -c '^line 2, bytes 4 to 24: aws-access-key' "$folder/explained")"
expect 'explain keeps the secret' 0 "$(grep -c "$secret" "$folder/explained")"
"$taffrail" redact --check <"$folder/in" >/dev/null 2>&1
expect 'check finds' 1 $?
echo 'token expired' | "$taffrail" redact --check >/dev/null 2>&1
expect 'check passes' 0 $?
"$taffrail" redact --no-such-option </dev/null >/dev/null 2>&1
expect 'usage' 2 $?
"$taffrail" redact <"$folder/in" >/dev/full 2>/dev/null
expect 'full disk' 3 $?
"$taffrail" no-such-command >/dev/null 2>&1
expect 'unknown command' 2 $?
"$taffrail" --help | grep -q redact || { echo "FAIL help"; failed=1; }
exit $failed
