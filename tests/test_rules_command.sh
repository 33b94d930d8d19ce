#!/bin/sh
# taffrail rules as a user runs it: what is listed, shown, tested and measured, how it exits.
# usage: test_rules_command.sh TAFFRAIL
set -u
taffrail=$1
docs=$(dirname "$0")/../docs
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

expect() { # NAME WANTED GOT
    if [ "$2" != "$3" ]; then
        echo "FAIL $1: wanted '$2', got '$3'"
        failed=1
    fi
}

exits() { # NAME CODE ARGUMENTS…: what it prints is in $folder/out and $folder/err
    name=$1 code=$2
    shift 2
    "$taffrail" rules "$@" >"$folder/out" 2>"$folder/err"
    expect "$name" "$code" $?
}

holds() { # NAME TEXT FILE
    grep -qF -- "$2" "$folder/$3" || { echo "FAIL $1: no '$2' in: $(cat "$folder/$3")"; failed=1; }
}

cat >"$folder/own.yaml" <<'YAML'
rules:
  - id: ticket
    description: a ticket
    regex: 'tkt_[0-9]+x'
    examples: {match: [tkt_12x], no_match: [tkt_x]}
YAML
sed 's/\[tkt_12x\]/[tkt_123x, tkt_12]/' "$folder/own.yaml" >"$folder/failing.yaml"
sed 's/regex: .*/regex: "("/' "$folder/own.yaml" >"$folder/wrong.yaml"
printf 'inputs: [container: {}]\noutputs: [stdout: {}]\nfilters: [redact: {rules: [own.yaml], disable: [cloud], modes: {ticket: drop}}]\n' \
    >"$folder/t.yaml"

exits list 0 list
holds 'list has a head' 'ID  ' out
expect 'list has all rules' yes "$([ "$(wc -l <"$folder/out")" -gt 220 ] && echo yes)"
# What the documentation lists is what ships.
awk 'NR > 1 { about = $6
              for (i = 7; i <= NF; i++) about = about " " $i
              printf "| `%s` | %s | %s | %s |\n", $1, $2, $3 == "yes" ? "on" : "off", about }' "$folder/out" >"$folder/table"
awk '{ n++; on += $6 == "on" } END { printf "%d rules in 9 packs; %d are on by default.\n", n, on }' "$folder/table" \
    >"$folder/counts"
grep '^| `' "$docs/rules-list.md" | diff - "$folder/table" || { echo 'FAIL docs/rules-list.md is not what ships'; failed=1; }
grep -qxF -- "$(cat "$folder/counts")" "$docs/rules-list.md" || { echo "FAIL docs/rules-list.md: no $(cat "$folder/counts")"; failed=1; }

exits 'list of a pack' 0 list --pack cloud
expect 'only that pack' 0 "$(tail -n +2 "$folder/out" | awk '$2 != "cloud"' | wc -l)"
exits 'list with own rules' 0 list --pack own --rules "$folder/own.yaml"
expect 'own rule' 'ticket own yes mask' "$(awk 'NR == 2 { print $1, $2, $3, $4 }' "$folder/out")"
exits 'list as configured' 0 list -c "$folder/t.yaml"
expect 'configured mode' 'ticket own yes drop' "$(awk '$1 == "ticket" { print $1, $2, $3, $4 }' "$folder/out")"
expect 'configured off' 0 "$(awk '$2 == "cloud" && $3 == "yes"' "$folder/out" | wc -l)"
exits 'list of no pack' 2 list --pack no-such-pack
exits 'list with a file' 2 list "$folder/own.yaml"
exits 'list with a wrong file' 1 list --rules "$folder/wrong.yaml"
exits 'list without that file' 2 list --rules "$folder/none.yaml"
exits 'list without that configuration' 2 list -c "$folder/none.yaml"

# What is shown is a file of rules as it stands.
for id in aws-access-key url-password card; do
    exits "show $id" 0 show "$id"
    sed "s/id: $id/id: own-$id/" "$folder/out" >"$folder/shown.yaml"
    exits "test of what is shown, $id" 0 test "$folder/shown.yaml"
done
exits 'show of nothing' 2 show no-such-rule
exits 'show without a name' 2 show

exits 'test' 0 test "$folder/own.yaml"
holds 'test says ok' 'ok    ticket                   1 match, 1 no_match' out
exits 'failing test' 1 test "$folder/failing.yaml"
holds 'test says why' 'FAIL  ticket                   match example 2 is not matched; keyword "tkt_" is there, the pattern stops at byte 6' out
holds 'test counts' '1 of 1 rule failed' out
exits 'wrong file' 1 test "$folder/wrong.yaml"
holds 'its place' 'wrong.yaml:4:12: error: rule "ticket": regex: missing closing parenthesis' err
exits 'missing file' 2 test "$folder/none.yaml"
exits 'test of nothing' 2 test

i=0
while [ $i -lt 300 ]; do
    echo "10.0.0.$i - - \"GET /orders/$i HTTP/1.1\" 200 512"
    i=$((i + 1))
done >"$folder/app.log"
exits 'bench' 0 bench "$folder/app.log"
holds 'bench tells' 'rules, 300 lines, ' out
head -n 1 "$folder/app.log" >"$folder/one.log"
exits 'bench of one line' 0 bench "$folder/one.log"
holds 'bench tells one' 'rules, 1 line, ' out
exits 'bench as configured' 0 bench -c "$folder/t.yaml" "$folder/app.log"
: >"$folder/empty.log"
exits 'bench of no line' 2 bench "$folder/empty.log"
exits 'bench of no file' 2 bench "$folder/none.log"
exits 'bench of nothing' 2 bench

# What is imported is a file of rules that the agent takes; what was left out has its place.
sample=$(dirname "$0")/data/gitleaks.toml
exits 'import' 0 import "$sample"
cp "$folder/out" "$folder/imported.yaml"
holds 'import writes rules' '  - id: shop-api-key' out
holds 'import tells an id' "gitleaks.toml:52:6: warning: rule \"slack-token\": its id becomes \"gitleaks-slack-token\"" err
holds 'import tells a path' 'warning: rule "keystore-file": it is left out: it has a path only, and a log has none' err
holds 'import sums up' 'rules: 22 rules written, 2' err
exits 'test of what is imported' 0 test "$folder/imported.yaml"
sed 's/own.yaml/imported.yaml/; s/disable: .cloud., modes: .*}}/enable: [gitleaks], max_cost: 100us}/' "$folder/t.yaml" >"$folder/i.yaml"
"$taffrail" check -c "$folder/i.yaml" >"$folder/out" 2>&1
expect 'check of what is imported' 0 $?
exits 'list of what is imported' 0 list --pack gitleaks -c "$folder/i.yaml"
holds 'it is on' 'shop-webhook                     gitleaks   yes' out
exits 'import beside own rules' 0 import --rules "$folder/imported.yaml" "$sample"
holds 'own ids are taken too' '  - id: gitleaks-shop-api-key' out
i=0
while [ $i -lt 40 ]; do
    printf '[[rules]]\nid = "r%s"\nregex = "[a-z]{8,40}[!|^]%s"\n' $i $i
    i=$((i + 1))
done >"$folder/dear.toml"
exits 'import of dear rules' 0 import "$folder/dear.toml"
holds 'their cost' 'dear.toml: warning: its rules cost ' err
holds 'the mend' 'ns a line of ordinary logs, and own rules may cost 1000; write redact: {max_cost: ' err
printf 'a = 1979-05-27\n' >"$folder/date.toml"
exits 'import of no TOML' 1 import "$folder/date.toml"
holds 'its place' 'date.toml:1:5: error: dates and times are not read here; write it as a text in quotes' err
expect 'nothing is written' 0 "$(wc -c <"$folder/out")"
exits 'import of no rule' 1 import "$folder/empty.log"
holds 'no rule' 'error: no rule of it can be taken, so nothing is written' err
head -c 1048577 /dev/zero | tr '\0' '#' >"$folder/large.toml"
exits 'import of a large file' 1 import "$folder/large.toml"
holds 'too large' 'large.toml: error: the file is larger than 1048576 bytes; part it' err
exits 'import of no file' 2 import "$folder/none.toml"
exits 'import of nothing' 2 import
exits 'import of two' 2 import "$sample" "$sample"
exits 'import beside a wrong file' 1 import --rules "$folder/wrong.yaml" "$sample"
"$taffrail" rules import "$sample" >/dev/full 2>"$folder/err"
expect 'import without room' 3 $?
holds 'no room' 'rules: the YAML could not be written; is there room?' err

exits 'no verb' 2
exits 'unknown verb' 2 frobnicate
exits 'unknown option' 2 list --no-such-option
exits 'option without value' 2 list --rules
exits 'two sources of own rules' 2 list -c "$folder/t.yaml" --rules "$folder/own.yaml"
exits help 0 --help
holds 'help has an example' 'example: ' out
exit $failed
