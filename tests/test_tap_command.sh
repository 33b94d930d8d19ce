#!/bin/sh
# taffrail tap as a user runs it: what comes out of log files, what is told about them, how it exits.
# usage: test_tap_command.sh TAFFRAIL
set -u
case "$1" in /*) taffrail=$1 ;; *) taffrail=$PWD/$1 ;; esac
fixtures=$(dirname "$0")/fixtures
host=$(uname -n)
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

expect() { # NAME WANTED GOT
    if [ "$2" != "$3" ]; then
        echo "FAIL $1: wanted '$2', got '$3'"
        failed=1
    fi
}

tap() { # OPTIONS...: to $folder/out and $folder/err
    "$taffrail" tap "$@" >"$folder/out" 2>"$folder/err"
}

expect_json() { # NAME: each line of out is one JSON object without doubled names
    python3 -c '
import json, sys

def object(pairs):
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)

def refuse(word):
    raise ValueError(word)

for line in sys.stdin.buffer:
    record = json.loads(line.decode("utf-8"), object_pairs_hook=object, parse_constant=refuse)
    assert list(record)[:2] == ["time", "tag"], line
' <"$folder/out" || { echo "FAIL $1: not NDJSON"; failed=1; }
}

# The fixtures: what a file of each format becomes, written by hand. The host stands on each record.
for format in docker cri; do
    sed "s/\"tag\":\"container\"/&,\"host\":\"$host\"/" "$fixtures/$format.ndjson" >"$folder/wanted"
    tap "$fixtures/$format.log"
    expect "$format exits" 0 $?
    diff "$folder/wanted" "$folder/out" || { echo "FAIL $format"; failed=1; }
    expect_json "$format"
    tap --format $format "$fixtures/$format.log"
    diff "$folder/wanted" "$folder/out" || { echo "FAIL $format, told"; failed=1; }
done
sed "s/\"tag\":\"container\"/&,\"host\":\"$host\"/" "$fixtures/plain.ndjson" >"$folder/wanted"
tap --format plain "$fixtures/plain.log"
sed 's/"time":"[^"]*",//' "$folder/out" | diff "$folder/wanted" - || { echo "FAIL plain"; failed=1; }
tap "$fixtures/docker.log"
expect 'summary' 'tap: 1 file (docker), 14 lines, 11 records, 0 redactions; nothing was sent or stored' \
    "$(cat "$folder/err")"
tap "$fixtures/docker.log" "$fixtures/cri.log" "$fixtures/cri.log" /dev/null
expect 'summary of many' 'tap: 4 files (2 cri, 1 docker, 1 without lines), 44 lines, 33 records, 0 redactions; nothing was sent or stored' \
    "$(cat "$folder/err")"

printf 'one\ntwo\n' >"$folder/short.log"
tap "$folder/short.log"
expect 'too short to tell the format' 'tap: 1 file (plain), 2 lines, 2 records, 0 redactions; nothing was sent or stored' \
    "$(cat "$folder/err")"

# Secrets are taken out, also one that lies across two pieces.
secret=AKIA"Z7QX4M2NPR5T6WUV"
cat >"$folder/secret.log" <<TEXT
2026-11-23T10:15:04Z stdout F key $secret end
2026-11-23T10:15:05Z stdout P key AKIAZ7QX4M
2026-11-23T10:15:05Z stdout F 2NPR5T6WUV end
TEXT
tap "$folder/secret.log"
expect 'masks' 2 "$(grep -c '"log":"key \[REDACTED:aws-access-key\] end"}$' "$folder/out")"
expect 'keeps the secret' 0 "$(grep -c "Z7QX4M" "$folder/out")"
expect 'counts' 1 "$(grep -c '(cri), 3 lines, 2 records, 2 redactions;' "$folder/err")"

# The path tells where a line is from, links and folders that one stands in too.
uid=6c1e0e0e-8a5c-4e4e-9c37-0d3a9d1f2b3c
mkdir -p "$folder/pods/shop_pay-0_$uid/app"
echo '2026-11-23T10:15:04.12Z stderr F charge failed' >"$folder/pods/shop_pay-0_$uid/app/2.log"
kubernetes="\"kubernetes\":{\"namespace_name\":\"shop\",\"pod_name\":\"pay-0\",\"pod_id\":\"$uid\",\"container_name\":\"app\",\"host\":\"$host\",\"restart_count\":2}"
wanted="{\"time\":\"2026-11-23T10:15:04.120000000Z\",\"tag\":\"container\",$kubernetes,\"host\":\"$host\",\"stream\":\"stderr\",\"log\":\"charge failed\"}"
tap "$folder/pods/shop_pay-0_$uid/app/2.log"
expect 'names of the path' "$wanted" "$(cat "$folder/out")"
name=$(cd "$folder/pods/shop_pay-0_$uid/app" && "$taffrail" tap 2.log 2>/dev/null)
expect 'names of the folder' "$wanted" "$name"
tap --text "$folder/pods/shop_pay-0_$uid/app/2.log"
expect 'for eyes' '10:15:04.120 shop/pay-0/app      err  charge failed' "$(cat "$folder/out")"

# With a configuration: its filters in their order, its labels, the tag and the format of the file's input.
mkdir -p "$folder/app" "$folder/other"
cat >"$folder/tap.yaml" <<TEXT
agent: {host: node-7, labels: {cluster: prod}}
inputs:
  - container: {paths: [other/*.log], rescan: 100ms}
  - container: {name: apps, tag: "apps.{pod}", paths: [pods/**/*.log], format: cri, rescan: 100ms}
  - container: {name: lines, paths: [app/*.log], format: plain, encoding: latin1, max_line: 256B, rescan: 100ms}
filters:
  - multiline: {match: [apps.*], continue: '^\s'}
  - parse_json: {}
  - select: {match: [apps.*], drop: [{name: probes, where: {fields.probe: "^true$", kubernetes.pod_name: "^pay-0$"}}]}
  - edit: {rename: {fields.order: order}, add: {team: "key $secret"}}
spool: {path: spool, keep_free: 0, sync: 20ms}
outputs: [stdout: {}]
TEXT
cat >"$folder/pods/shop_pay-0_$uid/app/2.log" <<TEXT
2026-11-23T10:15:04.12Z stderr F charge failed
2026-11-23T10:15:04.13Z stderr F  at one: $secret
2026-11-23T10:15:04.14Z stdout F {"msg":"paid","order":7,"token":"hunter2hunter2"}
2026-11-23T10:15:04.15Z stderr F  at two
2026-11-23T10:15:04.16Z stdout F {"msg":"fine","probe":true}
2026-11-23T10:15:04.17Z stderr F last
2026-11-23T10:15:04.18Z stderr F  of all
TEXT
printf '2026-11-23T10:15:05Z stdout F other\n2026-11-23T10:15:05Z stdout F  not joined\n' >"$folder/other/1.log"
printf 'caf\351 is no CRI line\n%0400d\n' 7 >"$folder/app/1.log"
tap -c "$folder/tap.yaml" "$folder/pods/shop_pay-0_$uid/app/2.log"
expect 'configured exits' 0 $?
stands="$kubernetes,\"host\":\"node-7\",\"labels\":{\"cluster\":\"prod\"}"
stands=$(echo "$stands" | sed "s/\"host\":\"$host\"/\"host\":\"node-7\"/")
team='"team":"key [REDACTED:aws-access-key]"'
cat >"$folder/wanted" <<TEXT
{"time":"2026-11-23T10:15:04.140000000Z","tag":"apps.pay-0",$stands,"stream":"stdout","log":"paid","fields":{"token":"[REDACTED:assigned-secret]"},"order":7,$team}
{"time":"2026-11-23T10:15:04.120000000Z","tag":"apps.pay-0",$stands,"stream":"stderr","log":"charge failed\\n at one: [REDACTED:aws-access-key]\\n at two",$team}
{"time":"2026-11-23T10:15:04.170000000Z","tag":"apps.pay-0",$stands,"stream":"stderr","log":"last\\n of all",$team}
TEXT
diff "$folder/wanted" "$folder/out" || { echo 'FAIL configured'; failed=1; }
expect 'configured summary' 'tap: 1 file (cri), 7 lines, 3 records, 5 redactions, 1 filtered; nothing was sent or stored' \
    "$(cat "$folder/err")"
tap -c "$folder/tap.yaml" "$folder/other/1.log"
expect 'input by path' 2 "$(grep -c '"tag":"container","host":"node-7",' "$folder/out")"
(cd "$folder/app" && "$taffrail" tap -c ../tap.yaml 1.log) >"$folder/out" 2>/dev/null
expect 'encoding of the input' 1 "$(grep -c '"tag":"lines".*"log":"café is no CRI line"' "$folder/out")"
expect 'max_line of the input' 1 "$(grep -c '"truncated":400' "$folder/out")"
cp "$folder/app/1.log" "$folder/app/1.log.20261123-101505"
tap -c "$folder/tap.yaml" "$folder/app/1.log.20261123-101505"
expect 'input by the path before rotation' 2 "$(grep -c '"tag":"lines"' "$folder/out")"
rm "$folder/app/1.log.20261123-101505"
tap -c "$folder/tap.yaml" --format plain "$folder/pods/shop_pay-0_$uid/app/2.log"
expect 'format beats the input' 1 "$(grep -c '(plain), ' "$folder/err")"
sed 's/^spool:/  - redact: off\n&/' "$folder/tap.yaml" >"$folder/off.yaml"
tap -c "$folder/off.yaml" "$folder/pods/shop_pay-0_$uid/app/2.log"
expect 'redact off' 3 "$(grep -c "$secret" "$folder/out")"
expect 'redact off is told' 1 "$(grep -c '^tap: redaction is off in this configuration: secrets are shown$' "$folder/err")"
sed 's/^outputs:.*/outputs: [stdout: {colour: red}]/' "$folder/tap.yaml" >"$folder/wrong.yaml"
tap -c "$folder/wrong.yaml" "$folder/other/1.log"
expect 'wrong configuration' 2 $?
expect 'wrong configuration is told' 1 "$(grep -c 'wrong.yaml:.*colour' "$folder/err")"

# It shows what run ships of the same files: each byte but the order of files, and plain lines' time of reading.
tap -c "$folder/tap.yaml" "$folder/pods/shop_pay-0_$uid/app/2.log" "$folder/other/1.log" "$folder/app/1.log"
sort "$folder/out" | sed '/"tag":"lines"/s/"time":"[^"]*",//' >"$folder/shown"
expect 'shown' 7 "$(wc -l <"$folder/shown")"
: >"$folder/shipped" # the agent's shell may come to it later than grep below
"$taffrail" run -c "$folder/tap.yaml" >"$folder/shipped" 2>"$folder/err" &
agent=$!
tries=0
while [ "$(grep -vc '"tag":"taffrail.audit"' "$folder/shipped")" -lt 7 ] && [ $tries -lt 2400 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
kill $agent
wait $agent
expect 'run exits' 0 $?
grep -v '"tag":"taffrail.audit"' "$folder/shipped" | sort | sed '/"tag":"lines"/s/"time":"[^"]*",//' |
    diff "$folder/shown" - || { echo 'FAIL shown is not what was shipped'; cat "$folder/err"; failed=1; }

# Entries of the journal. That all fields are there: test_journal_fixtures.py.
tap --format journal "$fixtures/journald/export/journalctl-252.export" "$fixtures/journald/export/suppressed-252.export"
expect 'journal exits' 0 $?
expect 'journal summary' 'tap: 2 files (journal), 45 entries, 45 records, 0 redactions; nothing was sent or stored' \
    "$(cat "$folder/err")"
expect_json 'journal'
cat >"$folder/wanted" <<TEXT
{"time":"1970-01-01T00:00:00.000007000Z","tag":"journald","host":"$host","log":"key [REDACTED:aws-access-key]","severity":"error","journald":{"__REALTIME_TIMESTAMP":"7","PRIORITY":"3","DB_PASSWORD":"[REDACTED:assigned-password]","TAG":["[REDACTED:aws-access-key]","two"]}}
TEXT
printf '__REALTIME_TIMESTAMP=7\nPRIORITY=3\nMESSAGE=key %s\nDB_PASSWORD=hunter2hunter2\nTAG=%s\nTAG=two\n\n' \
    "$secret" "$secret" >"$folder/entry.export"
tap --format journal "$folder/entry.export"
diff "$folder/wanted" "$folder/out" || { echo 'FAIL journal entry'; failed=1; }
# A secret that lies over the cut of a long value, at each of these places, is not shown by half.
for before in 1044396 1044400 1044410 1044415; do
    python3 -c '
import sys

filler = "word " * (1 << 18)
print("MESSAGE=" + filler[: int(sys.argv[1])] + " " + sys.argv[2] + " " + filler + "\n")
' $before "$secret" >"$folder/long.export"
    tap --format journal "$folder/long.export"
    expect "long value is cut at $before" 1 "$(grep -c 'bytes left out\]"' "$folder/out")"
    expect "half a secret at $before" 0 "$(grep -c 'AKIA' "$folder/out")"
done
expect 'long value is marked' 1 "$(grep -c "\"truncated\":$(wc -c <"$folder/long.export")" "$folder/out")"
head -c 1200 "$fixtures/journald/export/journalctl-252.export" >"$folder/part.export"
tap --format journal "$folder/part.export" "$folder/entry.export"
expect 'part of an entry exits' 3 $?
expect 'part of an entry is told' 1 "$(grep -c 'part.export: ends inside an entry, which is left out$' "$folder/err")"
expect 'others are read' 1 "$(grep -c '"DB_PASSWORD"' "$folder/out")"
tap --format journal "$fixtures/cri.log"
expect 'no export format exits' 3 $?
expect 'no export format is told' 1 "$(grep -c "cri.log: not the journal's export format" "$folder/err")"

# Hostile files.
head -c 4194304 /dev/zero | tr '\0' x >"$folder/long.log"
tap --format plain "$folder/long.log"
expect 'long line exits' 0 $?
expect 'long line is one record' 1 "$(wc -l <"$folder/out")"
expect 'long line is marked' 1 "$(grep -c '"taffrail":{"truncated":4194304}.*bytes left out\]' "$folder/out")"
expect_json 'long line'
cat >"$folder/malformed.log" <<'TEXT'
{"log":"good\n","stream":"stdout","time":"2026-11-23T10:15:04Z"}
{"log":"never ends
{"log":1}

[]
TEXT
tap "$folder/malformed.log"
expect 'malformed lines are carried' 4 "$(grep -c '"taffrail":{"malformed":true}' "$folder/out")"
expect 'malformed lines are told' 1 "$(grep -c ', 4 malformed; nothing was sent' "$folder/err")"
expect 'malformed as it is' 1 "$(grep -c '"log":"{\\"log\\":\\"never ends"}$' "$folder/out")"
expect_json 'malformed lines'
printf '2026-11-23T10:15:04Z stdout F a\0b\n2026-11-23T10:15:04Z stdout F \377\376\n2026-11-23T10:15:04Z stdout F \033[2J\302\233\n' >"$folder/bytes.log"
tap "$folder/bytes.log"
expect_json 'bytes'
expect 'NUL' 1 "$(grep -c '"log":"a\\u0000b"}$' "$folder/out")"
expect 'not UTF-8' 1 "$(grep -c '"log_b64":"//4="}$' "$folder/out")"
expect 'controls' 1 "$(grep -c '"log":"\\u001b\[2J\\u009b"}$' "$folder/out")"
tap --text "$folder/bytes.log"
expect 'controls for eyes' 1 "$(grep -c ' out  \\x1b\[2J\\u009b$' "$folder/out")"
head -c 300000 /dev/zero | tr '\0' '\n' >"$folder/empty-lines.log" # more than a batch holds
tap --format plain "$folder/empty-lines.log"
expect 'many records' 300000 "$(wc -l <"$folder/out")"
expect 'thousands' 1 "$(grep -c '(plain), 300,000 lines, 300,000 records,' "$folder/err")"

# Usage, and what cannot be read or written.
tap "$folder/no-such-file" "$fixtures/cri.log" "$folder"
expect 'unreadable exits' 3 $?
expect 'others are read' 11 "$(wc -l <"$folder/out")"
expect 'unreadable are told' 2 "$(grep -c '; other files are read all the same$' "$folder/err")"
tap
expect 'no file' 2 $?
tap --no-such-option "$fixtures/cri.log"
expect 'unknown option' 2 $?
tap --format xml "$fixtures/cri.log"
expect 'unknown format' 2 $?
tap --format
expect 'no format' 2 $?
tap -f "$folder" # more of it: tests/integration/test_tap_follow.py
expect '-f of a folder exits' 3 $?
expect '-f of a folder is told' 1 "$(grep -c ': is no regular file, which -f needs; ' "$folder/err")"
tap -f
expect '-f without a file' 2 $?
tap -c
expect 'no configuration' 2 $?
tap -c "$folder/no-such-file" "$fixtures/cri.log"
expect 'unreadable configuration' 2 $?
expect 'unreadable configuration is told' 1 "$(grep -c 'no-such-file' "$folder/err")"
cp "$fixtures/cri.log" "$folder/-odd"
(cd "$folder" && "$taffrail" tap -- -odd >out 2>/dev/null)
expect 'name with a dash' 11 "$(wc -l <"$folder/out")"
tap --help
expect 'help exits' 0 $?
expect 'help has examples' 1 "$(grep -c '^examples: taffrail tap ' "$folder/out")"
"$taffrail" tap "$fixtures/cri.log" >/dev/full 2>"$folder/err"
expect 'full disk' 3 $?
expect 'full disk is told' 1 "$(grep -c '^tap: standard output: ' "$folder/err")"
{ "$taffrail" tap --format plain "$folder/empty-lines.log" 2>"$folder/err"; echo $? >"$folder/exit"; } | head -n 1 >/dev/null
expect 'the reader may go away' 0 "$(cat "$folder/exit")"
expect 'and nothing is said' '' "$(cat "$folder/err")"
exit $failed
