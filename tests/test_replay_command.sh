#!/bin/sh
# taffrail replay as a user runs it: what it refuses and how it says so, a limit, a job that is stopped, asked twice, resumed.
# usage: test_replay_command.sh TAFFRAIL
set -u
case "$1" in /*) taffrail=$1 ;; *) taffrail=$PWD/$1 ;; esac
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1

fail() { # NAME WHY
    echo "FAIL $1: $2"
    cat err
    failed=1
}

# NAME CODE WORDS OPTIONS...: exits with CODE, and says WORDS on standard error, or for CODE 0 anywhere.
expect() {
    name=$1 code=$2 words=$3
    shift 3
    "$taffrail" replay "$@" >out 2>err
    got=$?
    [ "$got" -eq "$code" ] || fail "$name" "exit $got, not $code"
    [ "$code" -eq 0 ] || [ ! -s out ] || fail "$name" "it printed"
    [ "$code" -ne 0 ] || cat out >>err
    grep -q -e "$words" err || fail "$name" "no '$words' in:"
}

# A condition, within forty seconds: the machine may be busy.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 800 ] || return 1
        sleep 0.05
    done
}

# shellcheck disable=SC2317 # called by wait_for
delivered() { [ "$(grep -c '"log":"line ' delivered.ndjson)" -eq 800 ]; }

# 800 lines that do not compress, in several frames: `sync: always` closes one for each read.
mkdir logs
for n in $(seq 800); do echo "line $n $(openssl rand -hex 500)"; done >logs/app.log
cat >agent.yaml <<'TEXT'
agent: {host: node-1}
inputs: [container: {paths: [logs/*.log], format: plain}]
spool: {path: spool, keep_free: 0, sync: always, retain: {age: 1h}}
outputs: [file: {path: delivered.ndjson}]
TEXT
cat >desk.yaml <<'TEXT'
agent: {stop_timeout: 400ms}
inputs: []
spool: {keys: [spool.key]}
outputs: [file: {name: case, path: case.ndjson}, stdout: {name: console}]
TEXT
"$taffrail" run -c agent.yaml >agent.log 2>&1 &
agent=$!
wait_for delivered || { cat agent.log; echo "FAIL the agent delivered nothing"; failed=1; }
kill "$agent"
wait "$agent"

# What it refuses: usage with the option's name, values with what is wrong and the mend.
expect help 0 'usage: taffrail replay' --help
expect nothing 2 'name a spool'
expect two 2 'b: one spool at a time' a b
expect option 2 '--nonsense is no option of it' spool --nonsense
for option in -c --from --to --grep --to-output --job --passphrase-file --key --where; do
    expect "$option alone" 2 "$option takes a value" spool $option
done
for value in 0 -1 x 1x 18446744073709551616; do
    expect "--limit $value" 2 '--limit takes a number from 1 on' spool --limit "$value"
done
for value in 0MiB/s 5MiB 5 5kb/s -5MiB/s x 1025GiB/s 99999999999999999999B/s; do
    expect "--max-rate $value" 2 '--max-rate takes a rate, such as 5MiB/s' spool --to-output case --job a --max-rate "$value"
done
expect 'a job that goes nowhere' 2 '--job and --max-rate go with --to-output' spool --job a
expect 'a rate of nothing' 2 '--job and --max-rate go with --to-output' spool --max-rate 1MiB/s
expect 'an output without job' 2 '--to-output needs --job ID' spool --to-output case
expect 'text to an output' 2 '--text and --follow print' spool --to-output case --job a --text
expect 'an endless job' 2 '--text and --follow print' spool --to-output case --job a --follow
expect 'a job that is a path' 2 '--job takes 1 to 64 of' spool --to-output case --job ../a
set -- spool
for n in $(seq 33); do set -- "$@" --where "a=$n"; done
expect 'conditions without end' 2 '--where is given too often' "$@"
expect 'a time' 2 'error: --from: "soon" is no time; write 2026-11-20' spool --from soon
expect 'a time behind nothing' 2 'error: --to: "+1h" is no time.*with --from +72h' spool --to +1h
expect 'a span the wrong way' 2 '--to is not after --from' spool --from now --to -1h
expect 'a condition' 2 'error: --where: "x" is not FIELD=VALUE; write kubernetes' spool --where x
expect 'a regex' 2 'error: --grep: missing closing parenthesis at byte 2 of "(a"' spool --grep '(a'
expect 'all at once' 2 '"soon"' spool --from soon --where x
grep -q '"x"' err || fail 'all at once' 'the second finding is missing'
expect 'no spool' 3 'error: spool "absent": no such file' absent
expect 'no key' 2 'absent.key' spool --key absent.key
expect 'no configuration' 2 'absent.yaml' spool -c absent.yaml
expect 'no output' 2 'desk.yaml:4:.*--to-output: there is no output "other"' spool -c desk.yaml --to-output other --job a
mkdir empty
expect 'nothing in it' 2 'name the directory that has the .seg files' empty --key spool.key
printf 'no job\n' >odd.job
expect 'no job file' 2 '"odd.job" is no sound job file; move it away' spool -c desk.yaml --to-output case --job odd
[ ! -e a.job ] || fail 'refused' 'it left a job file'

# What it finds: standard output and a summary, apart.
expect found 0 '^1 of ' spool --grep '^line 17 '
[ "$(wc -l <out)" -eq 1 ] || fail found 'not one line'
expect limit 0 '^3 of ' spool --where tag=container --limit 3

# A job with a limit, stopped between its frames: the same command goes on, up to the same number.
job() { # NAME OUTPUT OPTIONS...: to job.out and err
    name=$1 output=$2
    shift 2
    exec "$taffrail" replay spool -c desk.yaml --where tag=container --to-output "$output" --job "$name" "$@" 2>err
}
lines() { grep -c '"log":"line ' case.ndjson; }
job few case --limit 700 --max-rate 1B/s &
pid=$!
wait_for test -s case.ndjson || fail job 'it ships nothing'
wait_for lines || fail job 'it ships no line'
kill -TERM "$pid"
wait "$pid"
[ $? -eq 143 ] || fail 'stopped job' 'the exit code is not 143'
grep -q '^stopped at [0-9]*% (SIGTERM); the same command goes on from there (few.job)$' err || fail 'stopped job' 'it does not say so:'
[ "$(lines)" -lt 700 ] || fail 'stopped job' 'it was done'
expect 'another limit' 2 '"few.job" was begun with other options' spool -c desk.yaml --where tag=container --to-output case --job few --limit 701
expect resumed 0 '^700 of .* shipped to case, .*; job few is done (few.job)$' spool -c desk.yaml --where tag=container --to-output case --job few --limit 700
seq 700 >wanted
grep -o '"log":"line [0-9]*' case.ndjson | cut -d' ' -f2 | diff -q - wanted >/dev/null || fail resumed 'not each line once, in order'
# What it says of itself, to the output: who asked for what, at each start, and what came of it. Redacted.
said() { grep '"event":"replay"' "$1" | grep -o "\"$2\":[^,}]*" | tr '\n' ' '; }
[ "$(said case.ndjson step)" = '"step":"begin" "step":"resume" "step":"end" ' ] || fail said "$(said case.ndjson step)"
[ "$(said case.ndjson records)" = '"records":700 ' ] || fail said 'not how many'
grep -c "\"uid\":$(id -u)," case.ndjson | grep -q '^3$' || fail said 'not who'
sed -n 1p case.ndjson | grep -q '"tag":"taffrail.audit".*"event":"replay".*"job":"few".*"where":\["tag=container"\].*"limit":700' || fail said 'not first, or not what'
tail -n 1 case.ndjson | grep -q '"step":"end"' || fail said 'not last'
expect 'a secret that is looked for' 0 '^0 of ' spool -c desk.yaml --to-output case --job secret --grep password=hunter22 --from 2001-01-01 --to +1h
grep -q '"grep":"password=\[REDACTED' case.ndjson || fail 'a secret that is looked for' "$(grep '"job":"secret"' case.ndjson)"
grep -q '"from":"2001-01-01T00:00:00.000000000Z".*"to":"2001-01-01T01:00:00.000000000Z"' case.ndjson || fail said 'not from when to when'
expect 'done already' 0 '^job few is done: 700 records were shipped' spool -c desk.yaml --where tag=container --to-output case --job few --limit 700

# An output that takes no more: what is in flight has agent.stop_timeout, and a second signal not even that.
# shellcheck disable=SC2317 # called by wait_for
begun() { [ "$(wc -c <begun)" -eq 70000 ]; }
# Of two signals that wait at once there is one.
# shellcheck disable=SC2317 # called by wait_for
taken() { ! grep '^ShdPnd:.*[1-9a-f]' "/proc/$pid/status"; }
# NAME CONFIG CODE SIGNAL...
stuck() {
    name=$1 config=$2 code=$3
    shift 3
    rm -f begun
    { head -c 70000 >begun && exec sleep 60; } <pipe & # a pipe takes 65,536 more: then a frame is in flight
    reader=$!
    # A shell starts what is behind & with SIGINT ignored.
    python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' \
        "$taffrail" replay spool -c "$config" --to-output console --job stuck >pipe 2>err &
    pid=$!
    wait_for begun || fail "$name" 'it ships nothing'
    for signal in "$@"; do
        kill "-$signal" "$pid" || fail "$name" "it ended before $signal"
        wait_for taken || fail "$name" "it does not take $signal"
        sleep 0.2
    done
    wait "$pid"
    got=$?
    [ $got -eq "$code" ] || fail "$name" "exit $got, not $code"
    kill "$reader"
    wait "$reader" 2>/dev/null
}
mkfifo pipe
sed 's/400ms/1h/' desk.yaml >patient.yaml
stuck 'given up' desk.yaml 130 INT
grep -q '^stopped at [0-9]*% (SIGINT)' err || fail 'given up' 'it does not say so:'
stuck 'asked twice' patient.yaml 143 TERM TERM
[ ! -s err ] || fail 'asked twice' 'it still had something to say:'
"$taffrail" replay spool -c desk.yaml --to-output console --job stuck 2>err | grep -c '"log":"line ' >count
[ "$(cat count)" -eq 800 ] || fail 'after both' "$(cat count) lines, not all that no reader took"
[ "$failed" -eq 0 ] && echo "replay: as documented"
exit "$failed"
