#!/bin/sh
# taffrail verify as a user runs it: usage, files that are not what they should be, exit codes.
# usage: test_verify_command.sh TAFFRAIL
set -u
case "$1" in /*) taffrail=$1 ;; *) taffrail=$PWD/$1 ;; esac
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# NAME CODE WORDS OPTIONS...: exits with CODE, and says WORDS.
expect() {
    name=$1 code=$2 words=$3
    shift 3
    "$taffrail" verify "$@" >"$folder/out" 2>&1
    got=$?
    [ "$got" -eq "$code" ] || { echo "FAIL $name: exit $got, not $code"; cat "$folder/out"; failed=1; }
    grep -q -e "$words" "$folder/out" || { echo "FAIL $name: no '$words' in:"; cat "$folder/out"; failed=1; }
}

mkdir "$folder/empty"
printf 'TFS1-00000\n' >"$folder/bad.key"
printf 'no pem\n' >"$folder/bad.pem"
printf '{}\n' >"$folder/bad.ndjson"

expect help 0 'usage: taffrail verify' --help
expect nothing 2 'name a spool'
expect two 2 'name one spool' a b
expect option 2 'no option of it' --nonsense x "$folder/empty"
expect value 2 'takes a value' "$folder/empty" --key
expect number 2 'a frame number' --expect 12 "$folder/empty"
expect agent 2 'hex digits' --receipts NOPE "$folder/empty"
expect absent 3 'no such file' "$folder/absent"
expect seal-key 2 'bad.key: error: not a verification key' "$folder/empty" --seal-key "$folder/bad.key"
expect receipt-key 2 'bad.pem: error: not an Ed25519' "$folder/empty" --receipt-key "$folder/bad.pem"
expect key 2 'absent.key' "$folder/empty" --key "$folder/absent.key"
printf 'sesame\n' >"$folder/passphrase"
openssl genpkey -algorithm x25519 -aes256 -pass "file:$folder/passphrase" -out "$folder/auditor.key" 2>/dev/null
chmod 600 "$folder/auditor.key" "$folder/passphrase"
expect locked 2 'wants a passphrase' "$folder/empty" --key "$folder/auditor.key"
expect unlocked 1 'spool.meta is not there' "$folder/empty" --key "$folder/auditor.key" --passphrase-file "$folder/passphrase"
expect witness 2 'bad.ndjson:1' "$folder/empty" --witness "$folder/bad.ndjson"
expect no-key 2 'needs the collector' --receipts 7f "$folder/empty"
expect empty 1 'spool.meta is not there' "$folder/empty"
"$taffrail" pki seal "$folder/new" | grep -o 'TFS1-.*' >"$folder/first-seal.key"
expect nothing-here 1 'NOTHING HERE: no segment' "$folder/new"
expect nothing-yet 0 'nothing here yet: no segment' "$folder/new" --seal-key "$folder/first-seal.key"
: >"$folder/empty.ndjson"
expect empty-witness 2 'empty.ndjson: error: it is empty' "$folder/new" --witness "$folder/empty.ndjson"
zeros=$(printf '%064d' 0)
printf '{"spool":"%s","seq":"1/1","prev":"0/0","chain":"%s","d":"%s","received":"2026-01-01T00:00:00Z","flags":0}\n' \
    "$(printf '%032d' 1)" "$zeros" "$zeros" >"$folder/foreign.ndjson"
expect foreign-witness 2 'foreign.ndjson: error: none of its 1 lines is of this spool' "$folder/new" --witness "$folder/foreign.ndjson"
expect not-a-segment 1 'DAMAGED' "$folder/bad.pem"
[ "$failed" -eq 0 ] && echo "verify: as documented"
exit "$failed"
