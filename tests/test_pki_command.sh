#!/bin/sh
# taffrail pki as a user runs it: what is made is judged by the openssl command line alone.
# usage: test_pki_command.sh TAFFRAIL
set -u
taffrail=$1
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
pki=$folder/pki
umask 022

expect() { # NAME WANTED GOT
    if [ "$2" != "$3" ]; then
        echo "FAIL $1: wanted '$2', got '$3'"
        failed=1
    fi
}

holds() { # NAME TEXT FILE
    if ! grep -qF -e "$2" "$3"; then
        echo "FAIL $1: '$2' is not in:"
        cat "$3"
        failed=1
    fi
}

run() { # ARGUMENTS of pki; the exit code
    "$taffrail" pki "$@" >"$folder/out" 2>"$folder/err"
    echo $?
}

mode() {
    stat -c %a "$1"
}

show() { # CERTIFICATE
    openssl x509 -in "$1" -noout -text >"$folder/text"
}

# The CA
expect 'init' 0 "$(run init --name 'Example Logs' "$pki")"
holds 'init tells' "$pki/ca.pem  ca.key (0600)   CN=Example Logs CA, EC P-256, 10 years, sha256 " "$folder/out"
print=$(openssl x509 -in "$pki/ca.pem" -noout -fingerprint -sha256 | tr -d : | tr 'A-F' 'a-f' | sed 's/.*=//')
holds 'init tells the fingerprint' "sha256 $print; keep ca.key off the nodes; next: taffrail pki collector $pki NAME" "$folder/out"
expect 'mode of ca.key' 600 "$(mode "$pki/ca.key")"
expect 'mode of the folder' 700 "$(mode "$pki")"
show "$pki/ca.pem"
holds 'CA subject' 'Subject: CN = Example Logs CA' "$folder/text"
holds 'CA curve' 'ASN1 OID: prime256v1' "$folder/text"
grep -A1 'X509v3 Basic Constraints: critical' "$folder/text" >"$folder/part"
holds 'CA constraints' 'CA:TRUE, pathlen:0' "$folder/part"
grep -A1 'X509v3 Key Usage: critical' "$folder/text" >"$folder/part"
holds 'CA usage' 'Certificate Sign, CRL Sign' "$folder/part"
holds 'CA key id' 'X509v3 Subject Key Identifier' "$folder/text"
expect 'CA lasts' 0 "$(openssl x509 -in "$pki/ca.pem" -noout -checkend $((3650 * 86400)) >/dev/null; echo $?)"
expect 'CA ends' 1 "$(openssl x509 -in "$pki/ca.pem" -noout -checkend $((3653 * 86400)) >/dev/null; echo $?)"

# A collector
expect 'collector' 0 "$(run collector "$pki" logs.example.com 192.0.2.10 2001:db8::1)"
expect 'collector tells' "$pki/logs.example.com.pem  .key   DNS:logs.example.com, IP:192.0.2.10, IP:2001:db8::1, serverAuth, 90 days" "$(cat "$folder/out")"
expect 'mode of its key' 600 "$(mode "$pki/logs.example.com.key")"
show "$pki/logs.example.com.pem"
grep -A1 'Subject Alternative Name' "$folder/text" >"$folder/part"
holds 'its names' 'DNS:logs.example.com, IP Address:192.0.2.10, IP Address:2001:DB8:0:0:0:0:0:1' "$folder/part"
expect 'its purpose' '                TLS Web Server Authentication' "$(grep -A1 'Extended Key Usage' "$folder/text" | tail -n 1)"
holds 'no CA' 'CA:FALSE' "$folder/text"
holds 'authority key id' 'X509v3 Authority Key Identifier' "$folder/text"
for name in '-verify_hostname logs.example.com' '-verify_ip 192.0.2.10' '-verify_ip 2001:db8::1'; do
    # shellcheck disable=SC2086 # two words on purpose
    openssl verify -x509_strict -purpose sslserver -CAfile "$pki/ca.pem" $name "$pki/logs.example.com.pem" >"$folder/text" 2>&1
    expect "chain, $name" 0 $?
done
openssl verify -purpose sslclient -CAfile "$pki/ca.pem" "$pki/logs.example.com.pem" >/dev/null 2>&1
expect 'a collector is no client' 2 $?
expect 'it lasts' 0 "$(openssl x509 -in "$pki/logs.example.com.pem" -noout -checkend $((89 * 86400)) >/dev/null; echo $?)"
expect 'it ends' 1 "$(openssl x509 -in "$pki/logs.example.com.pem" -noout -checkend $((91 * 86400)) >/dev/null; echo $?)"

# An agent
expect 'agent' 0 "$(run agent "$pki" node-7)"
expect 'agent tells' "$pki/node-7.pem  .key   URI:spiffe://example-logs/node/node-7, clientAuth, 90 days" "$(cat "$folder/out")"
expect 'mode of its key' 600 "$(mode "$pki/node-7.key")"
show "$pki/node-7.pem"
expect 'its identity' '                URI:spiffe://example-logs/node/node-7' "$(grep -A1 'Subject Alternative Name' "$folder/text" | tail -n 1)"
expect 'its purpose' '                TLS Web Client Authentication' "$(grep -A1 'Extended Key Usage' "$folder/text" | tail -n 1)"
openssl verify -x509_strict -purpose sslclient -CAfile "$pki/ca.pem" "$pki/node-7.pem" >/dev/null 2>&1
expect 'chain' 0 $?
openssl verify -purpose sslserver -CAfile "$pki/ca.pem" "$pki/node-7.pem" >/dev/null 2>&1
expect 'an agent is no server' 2 $?
openssl x509 -in "$pki/node-7.pem" -noout -pubkey >"$folder/of_cert"
openssl pkey -in "$pki/node-7.key" -pubout >"$folder/of_key" 2>/dev/null
expect 'key and certificate' "$(cat "$folder/of_cert")" "$(cat "$folder/of_key")"

# A spool key
expect 'spool' 0 "$(run spool "$folder/spool.key")"
expect 'mode of the spool key' 600 "$(mode "$folder/spool.key")"
expect 'one line' 1 "$(wc -l <"$folder/spool.key")"
expect 'its prefix' taffrail-kek-1: "$(cut -c1-15 "$folder/spool.key")"
expect 'its bytes' 32 "$(cut -c16- "$folder/spool.key" | openssl base64 -d -A | wc -c)"
expect 'the key is not told' 0 "$(cut -c16- "$folder/spool.key" | grep -cFf - "$folder/out")"
expect 'another spool key' 0 "$(run spool "$folder/other.key")"
expect 'keys differ' 1 "$(cmp -s "$folder/spool.key" "$folder/other.key"; echo $?)"

# Nothing is overwritten
find "$pki" "$folder/spool.key" -type f -exec sha256sum {} + | sort >"$folder/before"
expect 'init again' 2 "$(run init --name Other "$pki")"
holds 'init names the file' "$pki/ca.key exists, and nothing is overwritten" "$folder/err"
expect 'collector again' 2 "$(run collector "$pki" logs.example.com)"
expect 'agent again' 2 "$(run agent "$pki" node-7)"
expect 'agent called as the CA' 2 "$(run agent "$pki" ca)"
expect 'spool again' 2 "$(run spool "$folder/spool.key")"
holds 'spool names the file' "$folder/spool.key exists, and nothing is overwritten" "$folder/err"
touch "$pki/half.pem"
expect 'only the certificate is there' 2 "$(run agent "$pki" half)"
holds 'it is named' "$pki/half.pem exists" "$folder/err"
expect 'no key is left' 1 "$(test -e "$pki/half.key"; echo $?)"
rm "$pki/half.pem"
ln -s "$folder/planted" "$pki/link.key"
expect 'a link' 2 "$(run agent "$pki" link)"
ln -s "$folder/planted" "$folder/link.key"
expect 'a link for a spool key' 2 "$(run spool "$folder/link.key")"
expect 'no link is followed' 1 "$(test -e "$folder/planted"; echo $?)"
rm "$pki/link.key"
find "$pki" "$folder/spool.key" -type f -exec sha256sum {} + | sort >"$folder/after"
expect 'all is as it was' "$(cat "$folder/before")" "$(cat "$folder/after")"

# Names that are refused
long=$(printf '%064d' 1)
for node in '' . .. -x ../evil a/b 'a b' 'a,DNS:evil' 'a;b' 'ä' "$long" 'a
b'; do
    expect "node '$node'" 2 "$(run agent "$pki" "$node")"
done
for host in '' . a..b a. .a -a a- '*.example.com' 'a b' 'a,DNS:evil' a/b 1.2.3 1.2.3.4.5 256.1.1.1 host:24224 '[::1]' fe80::1%eth0 'ä.example' "$long.example"; do
    expect "host '$host'" 2 "$(run collector "$pki" "$host")"
    expect "second host '$host'" 2 "$(run collector "$pki" good.example "$host")"
done
for name in '' ' a' 'a ' '---' "$long" 'a	b' 'ä'; do
    expect "name '$name'" 2 "$(run init --name "$name" "$folder/refused")"
done
expect 'too many hosts' 2 "$(seq -f 'h%g.example' 65 | xargs "$taffrail" pki collector "$pki" >/dev/null 2>&1; code=$?; [ $code -eq 123 ] && echo 2 || echo $code)"
expect 'nothing was made' 1 "$(test -e "$folder/refused" || test -e "$pki/good.example.pem"; echo $?)"

# A CA that is not as it must be
expect 'no CA' 2 "$(run agent "$folder" node-8)"
holds 'the mend' 'taffrail pki init' "$folder/err"
chmod 0640 "$pki/ca.key"
expect 'others may read it' 2 "$(run agent "$pki" node-8)"
holds 'the mend' 'chmod 0600' "$folder/err"
chmod 0600 "$pki/ca.key"
mkdir "$folder/bad"
(umask 077 && cp "$pki/node-7.key" "$folder/bad/ca.key")
cp "$pki/node-7.pem" "$folder/bad/ca.pem"
expect 'a leaf is no CA' 2 "$(run agent "$folder/bad" node-8)"
holds 'a leaf is no CA' 'is no certificate of a CA' "$folder/err"
cp "$pki/ca.pem" "$folder/bad/ca.pem"
expect 'another key' 2 "$(run agent "$folder/bad" node-8)"
holds 'another key' 'is not the key of' "$folder/err"
openssl pkey -in "$pki/ca.key" -aes128 -passout pass:x -out "$folder/bad/ca.key" 2>/dev/null
chmod 0600 "$folder/bad/ca.key"
expect 'a key with a passphrase' 2 "$(run agent "$folder/bad" node-8 </dev/null)"
openssl req -x509 -key "$pki/ca.key" -subj '/CN=Short CA' -days 30 -out "$folder/bad/ca.pem" 2>/dev/null
cp "$pki/ca.key" "$folder/bad/ca.key"
expect 'a CA that ends too soon' 2 "$(run agent "$folder/bad" node-8)"
holds 'a CA that ends too soon' 'ends before what it would sign' "$folder/err"
openssl req -x509 -key "$pki/ca.key" -subj '/CN=***' -days 300 -out "$folder/bad/ca.pem" 2>/dev/null
expect 'a CA without a name' 2 "$(run agent "$folder/bad" node-8)"
openssl req -x509 -key "$pki/ca.key" -subj '/CN=Our Own' -days 300 -out "$folder/bad/ca.pem" 2>/dev/null
expect 'a CA of others' 0 "$(run agent "$folder/bad" node-8)"
holds 'its domain' 'URI:spiffe://our-own/node/node-8' "$folder/out"
echo nonsense >"$folder/bad/ca.pem"
expect 'no PEM' 2 "$(run agent "$folder/bad" node-9)"
rm "$folder/bad/ca.pem" && mkfifo "$folder/bad/ca.pem"
expect 'a pipe' 2 "$(run agent "$folder/bad" node-9)"

# Usage
expect 'help' 0 "$(run --help)"
holds 'help' 'usage: taffrail pki init' "$folder/out"
expect 'help of a verb' 0 "$(run agent --help)"

# The first key of a spool's seals
here=$(cd "$(dirname "$0")" && pwd)
expect 'seal' 0 "$(run seal "$folder/spool")"
holds 'seal shows the key' 'The verification key of this spool, shown once and stored nowhere:' "$folder/out"
holds 'seal tells from where on' 'Sealing from frame 1/1 on.' "$folder/out"
expect 'form of the key' 1 "$(grep -cE '^    TFS1(-[0-9A-HJKMNP-TV-Z]{5}){16}-[0-9A-HJKMNP-TV-Z]{4}$' "$folder/out")"
grep TFS1 "$folder/out" >"$folder/seal.key"
expect 'files of the spool' 'LOCK seal.state spool.meta' "$(cd "$folder/spool" && echo *)"
expect 'mode of the spool' 700 "$(mode "$folder/spool")"
expect 'mode of the state' 600 "$(mode "$folder/spool/seal.state")"
expect 'seal again' 2 "$(run seal "$folder/spool")"
holds 'seal again tells the mend' '--renew begins a new series' "$folder/err"
mkdir "$folder/logs" && echo line >"$folder/logs/a.log"
cat >"$folder/sealed.yaml" <<END
spool: {path: spool, seal: required, keep_free: 0, retain: {size: 1MiB}}
inputs: [container: {paths: ["logs/*.log"], format: plain}]
outputs: [file: {path: records.ndjson}]
END
"$taffrail" check -c "$folder/sealed.yaml" >"$folder/out" 2>/dev/null
holds 'check knows the seal' 'encrypted, sealed' "$folder/out"
run_agent() { # until the line is there
    "$taffrail" run -c "$folder/sealed.yaml" 2>"$folder/log" &
    agent=$!
    for _ in $(seq 600); do # the machine may be busy
        if grep -q event=ready "$folder/log" && [ -s "$folder/records.ndjson" ]; then break; fi
        sleep 0.1
    done
    [ "${1:-}" = busy ] && expect 'seal of a running agent' 3 "$(run seal --renew "$folder/spool")"
    kill -TERM $agent
    wait $agent
    expect 'agent stops' 0 $?
}
run_agent busy
holds 'its mend' 'another agent writes here; stop it' "$folder/err"
holds 'agent tells the seal' 'sealed=true' "$folder/log"
run_agent
/usr/bin/python3 "$here/integration/read_segment.py" --seal-key "$folder/seal.key" "$folder/spool" >"$folder/out" 2>"$folder/err"
expect 'an independent reader agrees with the key' 0 $?
expect 'and finds seals' 1 "$(grep -cE '^[2-9] seals, sealed to 2/' "$folder/err")"
rm "$folder/spool/seal.state"
expect 'lost and not renewed' 2 "$(run seal -c "$folder/sealed.yaml")"
"$taffrail" run -c "$folder/sealed.yaml" 2>"$folder/log"
expect 'required does not start' 2 $?
holds 'the mend' "then taffrail pki seal --renew $folder/spool" "$folder/log"
expect 'renew' 0 "$(run seal -c "$folder/sealed.yaml" --renew --out "$folder/second.key")"
holds 'from the next run on' 'Sealing from frame 3/1 on.' "$folder/out"
expect 'no key is shown' 0 "$(grep -c TFS1 "$folder/out")"
expect 'mode of the key' 600 "$(mode "$folder/second.key")"
run_agent
/usr/bin/python3 "$here/integration/read_segment.py" --seal-key "$folder/second.key" "$folder/spool" >/dev/null 2>"$folder/err"
expect 'the new series is sound' 0 $?
expect 'a key file is not overwritten' 2 "$(run seal --renew --out "$folder/second.key" "$folder/spool")"
if [ "$(id -u)" -eq 0 ]; then # what is made belongs to the folder's owner, but no file that he linked there
    mkdir -m 700 "$folder/theirs"
    chown 1234:1234 "$folder/theirs"
    touch "$folder/other"
    ln "$folder/other" "$folder/theirs/LOCK"
    expect 'seal of another user' 0 "$(run seal --out "$folder/third.key" "$folder/theirs")"
    expect 'the state is his' 1234 "$(stat -c %u "$folder/theirs/seal.state")"
    expect 'a linked file is not' 0 "$(stat -c %u "$folder/other")"
fi
expect 'seal with two spools' 2 "$(run seal a b)"
expect 'help of seal' 0 "$(run seal --help)"
holds 'help of seal' 'usage: taffrail pki seal' "$folder/out"

expect 'hash' 0 "$(run hash "$folder/hash.key")"
expect 'one line of 61 bytes' 61 "$(wc -c <"$folder/hash.key")"
expect 'its mode' 600 "$(stat -c %a "$folder/hash.key")"
expect 'hash again' 2 "$(run hash "$folder/hash.key")"
expect 'hash without file' 2 "$(run hash)"
expect 'no verb' 2 "$(run)"
expect 'unknown verb' 2 "$(run sign)"
expect 'init without name' 2 "$(run init "$folder/x")"
expect 'init without folder' 2 "$(run init --name a)"
expect 'init with two folders' 2 "$(run init --name a x y)"
expect 'collector without host' 2 "$(run collector "$pki")"
expect 'agent with two nodes' 2 "$(run agent "$pki" a b)"
expect 'spool without file' 2 "$(run spool)"
expect 'spool in no folder' 3 "$(run spool "$folder/absent/key")"
expect 'init in no folder' 3 "$(run init --name a "$folder/absent/pki")"
"$taffrail" pki spool "$folder/full.key" >/dev/full 2>/dev/null
expect 'full disk' 3 $?
exit $failed
