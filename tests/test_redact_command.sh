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
expect 'check writes no text' 0 "$("$taffrail" redact --check <"$folder/in" | wc -c)"
echo 'token expired' | "$taffrail" redact --check >/dev/null 2>&1
expect 'check passes' 0 $?

# One object a hit, to be read by programs
"$taffrail" redact --json --check <"$folder/in" 2>"$folder/json"
expect 'json with check' 1 $?
expect 'json' '{"line":2,"from":4,"to":24,"rule":"aws-access-key","pack":"cloud","mode":"mask"}' "$(cat "$folder/json")"
"$taffrail" redact --json --explain </dev/null >/dev/null 2>&1
expect 'json and explain' 2 $?

# Usage and failures
"$taffrail" redact --no-such-option </dev/null >/dev/null 2>&1
expect 'usage' 2 $?
"$taffrail" redact -c </dev/null >/dev/null 2>&1
expect 'no file behind -c' 2 $?
"$taffrail" redact -c "$folder/absent.yaml" <"$folder/in" >"$folder/out" 2>/dev/null
expect 'no configuration' 2 $?
expect 'no configuration, no text' 0 "$(wc -c <"$folder/out")"
"$taffrail" redact <"$folder/in" >/dev/full 2>/dev/null
expect 'full disk' 3 $?
"$taffrail" no-such-command >/dev/null 2>&1
expect 'unknown command' 2 $?
"$taffrail" --help | grep -q redact || { echo "FAIL help"; failed=1; }

# A configuration's options: marks by key, rules of one's own, records dropped
"$taffrail" pki hash "$folder/hash.key" >/dev/null
expect 'pki hash' 0 $?
expect 'mode of the hash key' 600 "$(stat -c %a "$folder/hash.key")"
expect 'its prefix' taffrail-hash-1: "$(cut -c1-16 "$folder/hash.key")"
"$taffrail" pki hash "$folder/hash.key" >/dev/null 2>&1
expect 'it is not overwritten' 2 $?
cat >"$folder/own.yaml" <<'TEXT'
rules:
  - id: ticket
    description: a ticket of the desk
    regex: 'TKT-[0-9]{6}'
    keywords: [TKT-]
    examples: {match: ['see TKT-123456'], no_match: ['TKT-12']}
TEXT
config() { # REDACT: writes a configuration with these options
    printf 'inputs: [container: {}]\nfilters: [redact: {%s, max_cost: 1000us}]\noutputs: [stdout: {}]\n' "$1" >"$folder/c.yaml"
}
config 'rules: [own.yaml], modes: {aws-access-key: hash, ticket: drop}, hash_key: hash.key'
printf 'a %s b\nTKT-123456 goes\nb %s c\n' "$secret" "$secret" | "$taffrail" redact -c "$folder/c.yaml" --json >"$folder/out" 2>"$folder/json"
expect 'with a configuration' 0 $?
expect 'drops a line' 2 "$(wc -l <"$folder/out")"
expect 'drop is told' 1 "$(grep -c '"line":2,.*"rule":"ticket","pack":"own","mode":"drop"' "$folder/json")"
expect 'marks are equal' 1 "$(grep -o '\[HASH:aws-access-key:[0-9a-f]*:[0-9A-Z]*\]' "$folder/out" | sort -u | wc -l)"
expect 'marks are two' 2 "$(grep -c '\[HASH:aws-access-key:[0-9a-f]\{8\}:[0-9A-Z]\{20\}\]' "$folder/out")"
expect 'a second run leaves them' 0 "$("$taffrail" redact --check <"$folder/out"; echo $?)"
config 'rules: [own.yaml]'
expect 'check tells what they cost' 1 "$("$taffrail" check -c "$folder/c.yaml" 2>/dev/null | grep -c 'redact: [0-9]* rules, [0-9]* ns a line here; 1 own, [0-9]* of 1000000 ns')"
config 'rules: [own.yaml], modes: {aws-access-key: hash, ticket: drop}, hash_key: hash.key'
chmod 0644 "$folder/hash.key"
"$taffrail" redact -c "$folder/c.yaml" <"$folder/in" >"$folder/out" 2>"$folder/err"
expect 'a key that others can read' 2 $?
expect 'it says why' 1 "$(grep -c 'can be read by others' "$folder/err")"
expect 'and passes nothing' 0 "$(wc -c <"$folder/out")"

# Own rules without a configuration
sed 's/max_cost: [0-9a-z]*//' "$folder/own.yaml" >"$folder/own2.yaml"
expect 'own rules' 'a [REDACTED:ticket] b' "$(echo 'a TKT-123456 b' | "$taffrail" redact --rules "$folder/own2.yaml" 2>/dev/null)"
expect 'no own rules' 'a TKT-123456 b' "$(echo 'a TKT-123456 b' | "$taffrail" redact)"
"$taffrail" redact --rules "$folder/absent.yaml" </dev/null >/dev/null 2>&1
expect 'a file of rules that is not there' 2 $?
"$taffrail" redact --rules "$folder/own2.yaml" -c "$folder/c.yaml" </dev/null >/dev/null 2>&1
expect 'both' 2 $?

# More lines at once than a batch holds
expect 'many short lines' 300000 "$(head -c 300000 /dev/zero | tr '\0' '\n' | "$taffrail" redact | wc -l)"

# Lines of all lengths: long ones whole, ones without bounds withheld; what is left is as it was
awk 'BEGIN { for (i = 0; i < 60000; i++) { print "line " i " of plain text, nothing to hide" } }' >"$folder/plain"
expect 'plain text passes' "$(cksum <"$folder/plain")" "$("$taffrail" redact <"$folder/plain" | cksum)"
{
    echo first
    head -c 2000000 /dev/zero | tr '\0' x
    printf ' %s\n' "$secret"
    head -c 17000000 /dev/zero | tr '\0' y
    printf '\nlast %s\n' "$secret"
} | "$taffrail" redact --json >"$folder/out" 2>"$folder/json"
expect 'long lines' 4 "$(wc -l <"$folder/out")"
expect 'a long line' 2000027 "$(sed -n 2p "$folder/out" | wc -c)"
expect 'too long a line' '[WITHHELD]' "$(sed -n 3p "$folder/out")"
expect 'after it' 'last [REDACTED:aws-access-key]' "$(sed -n 4p "$folder/out")"
expect 'the numbers of lines' '2 3 4' "$(sed 's/{"line":\([0-9]*\),.*/\1/' "$folder/json" | tr '\n' ' ' | sed 's/ $//')"
exit $failed
