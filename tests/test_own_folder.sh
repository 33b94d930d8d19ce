#!/bin/sh
# own-folder gives root's folder to the agent's user once, and takes nothing that is somebody else's.
# usage: test_own_folder.sh OWN-FOLDER
set -u
program=$1
folder=$(mktemp -d)
passed=0 failed=0

# WHAT COMMAND…
expect() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $what"
    fi
}

# PATH: mode, owner and group
state() {
    stat -c '%a %u:%g' "$1"
}

refuses() {
    ! "$program" "$@" 2>/dev/null
}

expect "no folder named is an error" refuses
expect "a folder that is not there is an error" refuses "$folder/none"
touch "$folder/file"
expect "a file is an error" refuses "$folder/file"
if [ "$(id -u)" -eq 0 ]; then
    mkdir -m 0755 "$folder/spool"
    touch "$folder/spool/kept"
    before=$(state "$folder/spool/kept")
    expect "root's folder is taken" "$program" "$folder/spool"
    expect "it is the agent's alone" [ "$(state "$folder/spool")" = "700 65532:65532" ]
    expect "what is in it is left alone" [ "$(state "$folder/spool/kept")" = "$before" ]
    chmod 0711 "$folder/spool"
    expect "a second time is fine" "$program" "$folder/spool"
    expect "and changes nothing" [ "$(state "$folder/spool")" = "711 65532:65532" ]
    mkdir "$folder/foreign"
    chown 1000 "$folder/foreign"
    expect "another user's folder is refused" refuses "$folder/foreign"
    expect "and not changed" [ "$(stat -c %u "$folder/foreign")" = 1000 ]
    mkdir "$folder/aim"
    ln -s aim "$folder/link"
    expect "a link is refused" refuses "$folder/link"
    expect "and what it leads to is not changed" [ "$(stat -c %u "$folder/aim")" = 0 ]
    mkdir "$folder/bare"
    expect "the capability to change owners is all it needs" \
        setpriv --bounding-set=-all,+chown --no-new-privs "$program" "$folder/bare"
else
    echo "skipped: who may take a folder (wants root)"
fi
rm -rf "$folder"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
