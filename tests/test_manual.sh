#!/bin/sh
# test_manual.sh TAFFRAIL MANUAL - the man pages and completions in the folder MANUAL say what the program says.
set -eu
taffrail=$1
manual=$2
failed=0

fail() {
    echo "FAIL  $1"
    failed=1
}

# References to our own pages are found once these are installed.
for page in "$manual"/*.[58]; do
    findings=$(mandoc -T lint "$page" 2>/dev/null | grep -v 'referenced manual not found' || true)
    [ -z "$findings" ] || fail "$findings"
done

commands=$("$taffrail" --help | sed -n 's/^    \([a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -w)" -ge 8 ] || fail "commands: $commands"
for command in $commands; do
    grep -q "^\.Ss taffrail $command\$" "$manual/taffrail.8" || fail "taffrail(8) has no $command"
    for shell in taffrail.bash _taffrail taffrail.fish; do
        grep -q "[ ']${command}[ :)']" "$manual/$shell" || fail "$shell has no $command"
    done
    for option in $("$taffrail" "$command" --help | grep -v '^[A-Z]' | grep -o -- '--[a-z][a-z-]*' | sort -u); do
        grep -q -- " ${option}[ \"]" "$manual/taffrail.bash" || fail "bash: $command has no $option"
        grep -q -- "'\*${option}\[" "$manual/_taffrail" || fail "zsh: $command has no $option"
        grep -q -- "from $command' -l ${option#--}\( \|\$\)" "$manual/taffrail.fish" || fail "fish: $command has no $option"
    done
done

# docs/configuration.md is checked against the tables by test_config; so are these pages, by way of it.
# shellcheck disable=SC2016 # backticks of Markdown
sed -n '/^## Section `agent`/,/^## TLS/s/^| `\([a-z_.]*\)` |.*/\1/p' docs/configuration.md | while read -r key; do
    grep -q "^\.It Ic $key\$" "$manual/taffrail.yaml.5" || echo "$key"
done >"$manual/missing"
[ ! -s "$manual/missing" ] || fail "taffrail.yaml(5) has no $(tr '\n' ' ' <"$manual/missing")"
# shellcheck disable=SC2016
sed -n '/^Of a rule;/,/^`${NAME}`/s/^| `\([a-z_]*\)` |.*/\1/p' docs/rules.md | while read -r key; do
    grep -q "^\.It Ic rules\.$key\$" "$manual/taffrail-rules.5" || echo "$key"
done >"$manual/missing"
[ ! -s "$manual/missing" ] || fail "taffrail-rules(5) has no $(tr '\n' ' ' <"$manual/missing")"
rm "$manual/missing"

# What bash offers behind these words.
offered() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    bash -c '. "$0"; compopt() { :; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taffrail; echo "${COMPREPLY[*]}"' \
        "$manual/taffrail.bash" "$@"
}
[ "$(offered taffrail ver)" = verify ] || fail "behind taffrail ver: $(offered taffrail ver)"
[ "$(offered taffrail pki s)" = "spool seal" ] || fail "behind pki s: $(offered taffrail pki s)"
[ "$(offered taffrail replay SPOOL --fr)" = --from ] || fail "behind --fr: $(offered taffrail replay SPOOL --fr)"
[ -z "$(offered taffrail replay --from '')" ] || fail "behind --from: $(offered taffrail replay --from '')"
for shell in zsh fish; do
    file=$manual/_taffrail
    [ $shell = fish ] && file=$manual/taffrail.fish
    if command -v $shell >/dev/null; then
        $shell -n "$file" || fail "$shell cannot read its completion"
    else
        echo "skip  $shell is not here to read its completion"
    fi
done
[ $failed -eq 0 ] && echo "ok    man pages and completions"
exit $failed
