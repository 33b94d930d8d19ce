#!/bin/sh
# The presets for other tools' reports: each is a sound configuration, and makes of a sample the records that it says.
# usage: test_presets.sh TAFFRAIL
set -u
case "$1" in /*) taffrail=$1 ;; *) taffrail=$PWD/$1 ;; esac
cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

expect() { # NAME WANTED GOT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf "FAIL %s: wanted '%s', got '%s'\n" "$1" "$2" "$3"
    fi
}

# NAME SAMPLE PYTHON: what an expression says of the records (r) that the preset makes of the sample
look() {
    "$taffrail" tap -c "$folder/$1.yaml" "tests/fixtures/presets/$2" 2>"$folder/err" |
        python3 -c "import json, sys; r = [json.loads(line) for line in sys.stdin]; print($3)"
}

{
    "$taffrail" pki init --name Example "$folder"
    "$taffrail" pki agent "$folder" node
} >"$folder/log"
for preset in conf/presets/*.yaml; do
    name=$(basename "$preset" .yaml)
    sed "s#^outputs:#spool: {path: $folder/$name-spool}\noutputs:#" "$preset" >"$folder/$name.yaml"
    "$taffrail" check -c "$folder/$name.yaml" >"$folder/log" 2>&1
    expect "$name is sound" 0 $?
done
expect "all are looked at" "docker-bench falco openscap" "$(find conf/presets -name '*.yaml' -exec basename {} .yaml ';' | sort | xargs)"

expect "an alert is a record" 2 "$(look falco falco.json 'len(r)')"
expect "its text" "10:15:05.000000001: Critical Executing binary not part of base image" "$(look falco falco.json "r[1]['log']")"
expect "its time" 2026-11-23T10:15:04.120000000Z "$(look falco falco.json "r[0]['time']")"
expect "its rule and priority" "Terminal shell in container Warning" "$(look falco falco.json "r[0]['fields']['rule'], r[0]['fields']['priority']" | tr -d "(),'")"
expect "a name with a dot" root "$(look falco falco.json "r[0]['fields']['output_fields']['user.name']")"
expect "a token in it is masked" True "$(look falco falco.json "'[REDACTED:bearer-token]' in r[0]['log'] and 'abcdefghijklmnopqrstuvwxyz' not in str(r)")"
expect "where it came from" "falco falco" "$(look falco falco.json "r[0]['tag'], r[0]['source']" | tr -d "(),'")"

expect "a check and what it found are one record" 2 "$(look docker-bench docker-bench.log "[x['log'] for x in r if ' 4.1 ' in x['log']][0].count('* Running as root')")"
expect "each check has one" 3 "$(look docker-bench docker-bench.log "sum(any(n in x['log'] for n in (' 4.1 ', ' 4.2 ', ' 5.1 ')) for x in r)")"
expect "what follows a check is none of it" 1 "$(look docker-bench docker-bench.log "sum(x['log'] == '[INFO] Checks: 3' for x in r)")"
expect "no empty records" 0 "$(look docker-bench docker-bench.log "sum(not x['log'].strip() for x in r)")"

expect "a rule is a record, unless it does not apply" 2 "$(look openscap openscap.log 'len(r)')"
expect "with its result" True "$(look openscap openscap.log "r[0]['log'].startswith('Title') and r[0]['log'].endswith('fail') and 'CCE-81042-8' in r[0]['log']")"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
