#!/bin/sh
# taffrail check as a user runs it: what it tells, where it tells it, how it exits.
# usage: test_check_command.sh TAFFRAIL
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

mkdir "$folder/logs"
printf 'a line\n' | tee "$folder/logs/a.log" >"$folder/logs/b.log"
ln -s a.log "$folder/logs/c.log" # read once
"$taffrail" pki spool "$folder/spool.key" >/dev/null || exit 1
sound="spool: {path: spool, max_size: 3MiB, keys: spool.key, shred: false}
inputs: [container: {paths: \"logs/*.log\"}]
outputs: [stdout: {}, stdout: {name: second}]"
printf '%s\n' "$sound" >"$folder/sound.yaml"
"$taffrail" check -c "$folder/sound.yaml" >"$folder/out" 2>"$folder/err"
expect 'sound exits' 0 $?
expect 'a key on the same disk is told' 1 "$(grep -c 'warning: key file .*it protects copies' "$folder/err")"
expect 'and no more' 1 "$(wc -l <"$folder/err")"
expect 'sound tells' "$folder/sound.yaml: sound, 1 warning
  reads   container: 2 files
  filters redact: N rules
  spool   $folder/spool: 3MiB, encrypted; N free on its disk
  ships   stdout; second
not tried: the network (--connect)" "$(sed 's/: [0-9]* rules, [0-9]* ns a line here/: N rules/; s/; [0-9,]* [GM]iB free/; N free/' "$folder/out")"
"$taffrail" check --connect -c "$folder/sound.yaml" >"$folder/out" 2>/dev/null
expect 'nothing to connect to exits' 0 $?
expect 'nothing to connect to' 'output "stdout" connects to nothing
output "second" connects to nothing
no output connects to anything' "$(cat "$folder/out")"
expect 'nothing is made' "logs sound.yaml spool.key" "$(cd "$folder" && rm -f out err && echo *)"

pods=$folder/pods
for pod in one two; do
    mkdir -p "$pods/shop_pay-${pod}_uid-$pod/app" "$pods/shop_pay-${pod}_uid-$pod/proxy"
    printf 'a line\n' | tee "$pods/shop_pay-${pod}_uid-$pod/app/0.log" >"$pods/shop_pay-${pod}_uid-$pod/proxy/0.log"
done
ln "$pods/shop_pay-two_uid-two/app/0.log" "$folder/another-name"
printf 'a line\n' | gzip >"$pods/shop_pay-one_uid-one/app/0.log.20261130-101010.gz" # may be new
"$taffrail" pki init --name Demo "$folder/pki" >/dev/null && "$taffrail" pki collector "$folder/pki" 127.0.0.1 >/dev/null &&
    "$taffrail" pki agent "$folder/pki" node-1 >/dev/null || exit 1
cat >"$folder/summary.yaml" <<EOF
spool: {path: spool, keys: spool.key}
inputs:
  - container: {paths: [pods/*/*/*.log]}
  - container: {name: chosen, paths: [pods/*/*/*.log], exclude: {container: [app]}}
  - container: {name: none, paths: [nowhere/*.log]}
  - journald: {}
  - journald: {name: some, units: [a.service, b.service]}
  - journald: {name: clients, mode: native, listen: "unix:$folder/native"}
  - forward: {listen: "127.0.0.1:0", allow: [{identity: "dns:*"}], tls: {ca: pki/ca.pem, cert: pki/127.0.0.1.pem, key: pki/127.0.0.1.key}}
outputs:
  - forward: {hosts: ["127.0.0.1:24224", "localhost:24225"], tls: {ca: pki/ca.pem, cert: pki/node-1.pem, key: pki/node-1.key}}
  - file: {path: out.ndjson}
EOF
"$taffrail" check -c "$folder/summary.yaml" >"$folder/out" 2>"$folder/err"
expect 'a summary exits' 0 $?
expect 'what it reads' '  reads   container: 4 files in 2 pods, 1 that may not be read; chosen: 2 files in 2 pods; none: 0 files; journald: all units; some: 2 units; clients: mode native; forward: on 127.0.0.1:0, certificate for N days' \
    "$(sed -n '2s/certificate for [0-9]* days/certificate for N days/p' "$folder/out")"
expect 'where it ships' "  ships   forward: 2 hosts, as spiffe://demo/node/node-1, certificate for N days; file: $folder/out.ndjson" \
    "$(sed -n '5s/certificate for [0-9]* days/certificate for N days/p' "$folder/out")"
rm -r "$pods" "$folder/pki" "$folder/another-name"

printf 'filters: [redact: off]\n%s\n' "$sound" >"$folder/warned.yaml"
"$taffrail" check -c "$folder/warned.yaml" >"$folder/out" 2>"$folder/err"
expect 'warned exits' 0 $?
expect 'warned says so' "$folder/warned.yaml: sound, 2 warnings" "$(head -1 "$folder/out")"
expect 'no redact' '  filters redact is off' "$(sed -n 3p "$folder/out")"
"$taffrail" check --strict -c "$folder/warned.yaml" >"$folder/out" 2>"$folder/err"
expect 'strict exits' 1 $?
expect 'strict says so' '0 errors, 2 warnings; --strict takes warnings for errors' "$(tail -1 "$folder/err")"

sed 's/shred: false/on_full: drop_oldest, auditor: auditor.pem, shred: false/' "$folder/sound.yaml" >"$folder/weak.yaml"
openssl genpkey -algorithm x25519 | openssl pkey -pubout >"$folder/auditor.pem"
"$taffrail" check -c "$folder/weak.yaml" >"$folder/out" 2>"$folder/err"
expect 'weak exits' 0 $?
expect 'drop_oldest is told' 1 "$(grep -c 'warning: spool.on_full is drop_oldest' "$folder/err")"
expect 'nothing is kept for the auditor' 1 "$(grep -c 'warning: spool.auditor without spool.retain' "$folder/err")"
openssl genpkey -algorithm ed25519 | openssl pkey -pubout >"$folder/auditor.pem"
"$taffrail" check -c "$folder/weak.yaml" >"$folder/out" 2>"$folder/err"
expect 'another kind of key exits' 1 $?
expect 'another kind of key' 1 "$(grep -c 'error: spool.auditor: .* is not a public X25519 key' "$folder/err")"

sed 's/path: spool,/path: not-there\/spool,/' "$folder/sound.yaml" >"$folder/above.yaml"
"$taffrail" check -c "$folder/above.yaml" >"$folder/out" 2>"$folder/err"
expect 'no folder for the spool exits' 0 $?
expect 'no folder for the spool' 1 "$(grep -c 'warning: .*the folder ".*/not-there" is not there; make it before the start' "$folder/err")"

expect 'nor the room on its disk' "  spool   $folder/not-there/spool: 3MiB, encrypted" "$(grep '^  spool' "$folder/out")"

printf 'imputs: []\n%s\nagent: {workers: x}\n' "$sound" >"$folder/wrong.yaml"
"$taffrail" check -c "$folder/wrong.yaml" >"$folder/out" 2>"$folder/err"
expect 'wrong exits' 1 $?
"$taffrail" check --connect -c "$folder/wrong.yaml" >"$folder/out" 2>"$folder/err"
expect 'wrong and connect exits' 1 $?
expect 'wrong is not connected' 1 "$(grep -c '^not tried yet: the network$' "$folder/err")"
"$taffrail" check -c "$folder/wrong.yaml" >"$folder/out" 2>"$folder/err"
expect 'wrong has no data' '' "$(cat "$folder/out")"
expect 'wrong tells all' "$folder/wrong.yaml:1:1: error: unknown section \"imputs\"; nearest: \"inputs\"
$folder/wrong.yaml:5:18: error: agent.workers: \"x\" is not a count; write a whole number
not looked at yet: rules, certificates and the spool
2 errors, 0 warnings; this configuration would not start" "$(cat "$folder/err")"
"$taffrail" check --json -c "$folder/wrong.yaml" >"$folder/out" 2>/dev/null
expect 'json exits' 1 $?
expect 'json lines' 2 "$(grep -c '^{"file":".*"severity":"error".*}$' "$folder/out")"

printf '%s\nfilters: [redact: {enable: [no-such-rule]}]\n' "$sound" >"$folder/built.yaml"
: >"$folder/spool.key"
"$taffrail" check -c "$folder/built.yaml" >/dev/null 2>"$folder/err"
expect 'plugins and spool are tried' 1 $?
expect 'both in one run' 2 "$(grep -c "^$folder/built.yaml:.* error: " "$folder/err")"

printf '%s\nsandbox: {user: no-such-user}\n' "$sound" >"$folder/user.yaml"
"$taffrail" check -c "$folder/user.yaml" >/dev/null 2>"$folder/err"
expect 'user' 1 $?
grep -q '"no-such-user" is no user of this machine' "$folder/err" || { echo "FAIL user says so"; failed=1; }

"$taffrail" check -c "$folder/nowhere.yaml" >/dev/null 2>"$folder/err"
expect 'unreadable' 2 $?
expect 'unreadable says so' "$folder/nowhere.yaml: error: cannot be read: no such file or directory; name a configuration with -c FILE" "$(cat "$folder/err")"
"$taffrail" check -c >/dev/null 2>&1
expect 'usage' 2 $?
for help in "check --help" "check -h" "help check"; do
    # shellcheck disable=SC2086 # two words
    "$taffrail" $help | grep -q '^example:' || { echo "FAIL $help"; failed=1; }
done
for help in --help -h help "-h check" "--help check"; do
    # shellcheck disable=SC2086 # the same
    "$taffrail" $help | grep -q '^    check ' || { echo "FAIL $help"; failed=1; }
done
exit $failed
