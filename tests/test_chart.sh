#!/bin/sh
# The Helm chart: it renders in each of its ways, to objects that Kubernetes knows, that a scanner has nothing against, and
# whose configuration `taffrail check` finds sound; and the plain manifests are what it renders.
# usage: test_chart.sh TAFFRAIL
set -u
case "$1" in /*) taffrail=$1 ;; *) taffrail=$PWD/$1 ;; esac
cd "$(dirname "$0")/.." || exit 1
tools=$PWD/build/tools
helm=$tools/chart/helm
chart=conf/kubernetes/taffrail
passed=0 failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

if ! tests/chart/fetch; then
    echo "skipped: the chart (npm cannot get what tests/chart/package.json names)"
    exit 0
fi

# WHAT COMMAND…
expect() {
    what=$1
    shift
    if "$@" >"$folder/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n%s\n' "$what" "$(sed 's/^/    /' "$folder/out")"
    fi
}

refuses() { # WORD COMMAND…: it fails, and says WORD
    word=$1
    shift
    ! "$@" >"$folder/refused" 2>&1 && grep -q "$word" "$folder/refused"
}

lacks() { # PATTERN FILE
    [ -s "$2" ] && ! grep -E "$1" "$2"
}

render() { # OPTIONS…
    "$helm" template taffrail "$chart" --namespace logging --set image.repository=taffrail,tls.existingSecret=taffrail-tls "$@"
}

with_hosts() {
    render --set 'output.hosts={logs.example.com,logs-b.example.com:24225}' "$@"
}

are_valid() { # FILE
    (cd "$tools/chart" && node validate.js) <"$1"
}

cp tests/chart/validate.js "$tools/chart/"

# ---- what it makes ----------------------------------------------------------------------------

everything="podMonitor.enabled=true,prometheusRule.enabled=true,dashboards.enabled=true,docker=true,journald.enabled=true"
with_hosts >"$folder/agent.yaml"
with_hosts --set "$everything,journald.group=101,spool.existingKeySecret=keys,filters[0].multiline.presets={java}" \
    --set-string redaction.rules="rules: []" --set labels.cluster=prod >"$folder/everything.yaml"
with_hosts -f "$chart/values-root.yaml" >"$folder/root.yaml"
with_hosts -f "$chart/values-capability.yaml" --set journald.enabled=true >"$folder/capability.yaml"
with_hosts -f "$chart/values-root.yaml" --set journald.enabled=true >"$folder/rootjournal.yaml"
with_hosts --kube-version 1.29 --set spool.hostPath= >"$folder/old.yaml"
render -f "$chart/values-collector.yaml" >"$folder/collector.yaml"
with_hosts --set 'kubernetes.mode=api,kubernetes.options.annotations={team/*},filters[0].multiline.presets={java}' >"$folder/api.yaml"
replay="replay.node=node-7,replay.case=case-42,spool.existingKeySecret=keys"
with_hosts --set "$replay" --set 'replay.query={--grep,charge failed}' >"$folder/print.yaml"
with_hosts --set "$replay,replay.output=forward,replay.maxRate=5MiB/s" >"$folder/ship.yaml"

expect "by its capability it needs no group of the nodes" lacks 'supplementalGroups|runAsGroup: 0' "$folder/capability.yaml"
expect "which it alone has" test "$(grep -c 'DAC_READ_SEARCH\|allowPrivilegeEscalation: true' "$folder/capability.yaml")" = 2
expect "and what starts before it has CHOWN" grep -q -- '- CHOWN' "$folder/capability.yaml"
with_hosts -f "$chart/values-capability.yaml" --set replay.node=node-7,replay.case=case-42 -s templates/replay.yaml >"$folder/checked.yaml"
expect "a Job has no capability" lacks 'add:|allowPrivilegeEscalation: true' "$folder/checked.yaml"
expect "helm lint" "$helm" lint --quiet "$chart" --set 'image.repository=t,tls.existingSecret=t,output.hosts={a}'
cat "$folder/api.yaml" >"$folder/all.yaml"
for way in agent everything root old collector print ship; do
    cat "$folder/$way.yaml" >>"$folder/all.yaml"
    expect "$way: no token" lacks 'serviceAccountToken:|kubernetes.io/serviceaccount' "$folder/$way.yaml"
    expect "$way: no rights in the cluster" lacks '^kind: .*(Role|Binding)|automountServiceAccountToken: true' "$folder/$way.yaml"
    expect "$way: never privileged" lacks 'privileged: true|hostNetwork|hostPID|hostIPC|docker\.sock|Escalation: true' "$folder/$way.yaml"
done
# Labels from the API: a role to read pods and nothing else, a token in the agent's container alone, the server's ports.
expect "api: never privileged" lacks 'privileged: true|hostNetwork|hostPID|hostIPC|Escalation: true|MountServiceAccountToken: true' "$folder/api.yaml"
expect "api: one rule" [ "$(grep -c 'apiGroups:' "$folder/api.yaml")" = 1 ]
expect "api: pods" grep -q '^    resources: \[pods\]$' "$folder/api.yaml"
expect "api: to be read" grep -q '^    verbs: \[get, list, watch\]$' "$folder/api.yaml"
binds_the_pods_account() { # FILE
    account=$(sed -n 's/^ *serviceAccountName: //p' "$1")
    [ -n "$account" ] && sed -n '/^subjects:/,/^---/p' "$1" | grep -qx "    name: $account"
}
expect "api: the account of the binding is the pod's" binds_the_pods_account "$folder/api.yaml"
expect "api: one mount of the token" [ "$(grep -c 'mountPath: /var/run/secrets/kubernetes.io/serviceaccount' "$folder/api.yaml")" = 1 ]
expect "api: the server's port is open" grep -q 'port: 6443' "$folder/api.yaml"
expect "and closed without" lacks 'port: 6443' "$folder/agent.yaml"
with_hosts --set kubernetes.mode=api,rbac.create=false >"$folder/norole.yaml"
expect "api: no role, when somebody else makes it" lacks '^kind: .*(Role|Binding)' "$folder/norole.yaml"
expect "kubelet is an error" refuses "path or api" with_hosts --set kubernetes.mode=kubelet
render -f "$chart/values-collector.yaml" --set kubernetes.mode=api >"$folder/asking.yaml"
expect "a collector asks no API" cmp "$folder/asking.yaml" "$folder/collector.yaml"
expect "all are objects of Kubernetes" are_valid "$folder/all.yaml"
sed 's/fsGroupChangePolicy/fsGroupPolicy/' "$folder/agent.yaml" >"$folder/wrong.yaml"
expect "a key that no such object has is found" refuses fsGroupPolicy are_valid "$folder/wrong.yaml"
expect "before 1.30 AppArmor is an annotation" grep -q 'container.apparmor.security.beta.kubernetes.io/taffrail: runtime/default' "$folder/old.yaml"
expect "and no field" lacks appArmorProfile "$folder/old.yaml"
for version in 1.29 1.32; do
    with_hosts --kube-version $version --set appArmorProfile=null >"$folder/without.yaml"
    expect "$version: without AppArmor where it is not wanted" lacks '[aA]pp[aA]rmor' "$folder/without.yaml"
done
expect "the second collector's port is open" grep -q 'port: 24225' "$folder/agent.yaml"
expect "no hosts is an error" refuses output.hosts render
expect "nobody allowed is an error" refuses collector.allow render --set mode=collector
expect "no Secret is an error" refuses tls.existingSecret with_hosts --set tls.existingSecret=
expect "no image is an error" refuses image.repository with_hosts --set image.repository=
with_hosts --set image.digest=sha256:0123 >"$folder/digest.yaml"
expect "a digest stands for the tag" grep -q 'image: taffrail@sha256:0123' "$folder/digest.yaml"
expect "a Job without a case is an error" refuses replay.case with_hosts --set replay.node=node-7
expect "nor is there one for a collector" refuses "spool that agents keep" render -f "$chart/values-collector.yaml" --set "$replay"
expect "who prints asks nobody" [ "$(grep -c '^  egress: \[\]' "$folder/print.yaml")" = 1 ]
expect "who ships reaches the collectors" [ "$(grep -c 'port: 24225' "$folder/ship.yaml")" = 2 ]
expect "a journal that nothing lets it read is an error" refuses "values-capability.yaml.*values-root.yaml" with_hosts --set journald.enabled=true
expect "root owns it" grep -q 'mountPath: /var/log/journal' "$folder/rootjournal.yaml"
expect "root of the pod, too" with_hosts --set journald.enabled=true,podSecurityContext.runAsUser=0,podSecurityContext.runAsNonRoot=false \
    --set securityContext.runAsUser=null,securityContext.runAsNonRoot=null
expect "a user without a number is not root" refuses journald.group with_hosts --set journald.enabled=true \
    --set podSecurityContext.runAsUser=null,securityContext.runAsUser=null
expect "a name of a group is an error" refuses "number of the group" with_hosts --set journald.enabled=true,journald.group=systemd-journal
expect "its group by another value" with_hosts --set 'journald.enabled=true,podSecurityContext.supplementalGroups={101}'
expect "a collector has no journal to read" render -f "$chart/values-collector.yaml" --set journald.enabled=true
expect "no such mode is an error" refuses "agent or collector" with_hosts --set mode=relay

# Every mount of the node is read-only, but for the spool; what is mounted is declared.
cat >"$folder/mounts.js" <<'JS'
const yaml = require("js-yaml");
for (const object of yaml.loadAll(require("fs").readFileSync(0, "utf8"))) {
    const pod = object && object.spec && object.spec.template && object.spec.template.spec;
    if (!pod) continue;
    const claims = (object.spec.volumeClaimTemplates || []).map((claim) => claim.metadata.name);
    const volumes = new Map([...pod.volumes, ...claims.map((name) => ({ name }))].map((volume) => [volume.name, volume]));
    const used = new Set();
    for (const container of [...(pod.initContainers || []), ...pod.containers]) {
        const rights = container.securityContext;
        if (rights.capabilities.drop[0] !== "ALL" || !rights.readOnlyRootFilesystem) throw new Error(`${container.name}: rights`);
        for (const mount of container.volumeMounts) {
            used.add(mount.name);
            if (!volumes.has(mount.name)) throw new Error(`no volume ${mount.name}`);
            const mayWrite = object.kind === "Job" ? "work" : "data";
            if (!mount.readOnly && mount.name !== mayWrite) throw new Error(`${mount.name} is mounted to be written`);
        }
    }
    if (used.size !== volumes.size) throw new Error(`mounted ${[...used]}, declared ${[...volumes.keys()]}`);
}
JS
mounts_are_sound() {
    (cd "$tools/chart" && cp "$folder/mounts.js" . && node mounts.js) <"$1"
}
for way in agent api everything root old collector print ship; do
    expect "$way: mounts" mounts_are_sound "$folder/$way.yaml"
done

# A changed configuration restarts the pods.
checksum() {
    grep -o 'checksum/config: .*' "$1"
}
with_hosts --set log.level=debug >"$folder/debug.yaml"
expect "another configuration, another checksum" [ "$(checksum "$folder/agent.yaml")" != "$(checksum "$folder/debug.yaml")" ]

# ---- what the agent says of the configuration ---------------------------------------------------

# Certificates where the pod has them, and where a spool can be made.
{
    "$taffrail" pki init --name Example "$folder/pki"
    "$taffrail" pki agent "$folder/pki" node-1
    "$taffrail" pki collector "$folder/pki" logs.example.com
    "$taffrail" pki spool "$folder/spool.key"
} >"$folder/pki.log"
mkdir -m 0700 "$folder/lib"

is_sound() { # FILE CERTIFICATE
    sed -n '/^  taffrail.yaml: |$/,/^  [a-z]\|^---/p' "$1" | sed -e '1d' -e '/^---/d' -e '/^  [a-z]/d' -e 's/^    //' \
        -e "s#/etc/taffrail/tls/ca.crt#$folder/pki/ca.pem#" -e "s#/etc/taffrail/tls/tls.crt#$folder/pki/$2.pem#" \
        -e "s#/etc/taffrail/tls/tls.key#$folder/pki/$2.key#" -e "s#/etc/taffrail/keys/spool.key#$folder/spool.key#" \
        -e "s#/etc/taffrail/rules.yaml#$folder/rules.yaml#" -e "s#/var/lib/taffrail#$folder/lib#" >"$folder/taffrail.yaml"
    [ -s "$folder/taffrail.yaml" ] && NODE_NAME=node-1 "$taffrail" check -c "$folder/taffrail.yaml"
}
cat >"$folder/rules.yaml" <<'YAML'
rules:
  - id: ticket
    description: a ticket of our own
    keywords: [tkt_]
    regex: 'tkt_[0-9]{6}'
    examples: {match: [tkt_123456], no_match: [tkt_12]}
YAML
expect "the agent's configuration is sound" is_sound "$folder/agent.yaml" node-1
expect "probes and metrics have their address" grep -q -- '- 0.0.0.0:24280' "$folder/taffrail.yaml"
expect "status is told in the pod alone" grep -q -- '- 127.0.0.1:24281' "$folder/taffrail.yaml"
with_hosts --set admin.enabled=false >"$folder/checked.yaml"
expect "without it, there are no probes" lacks 'Probe:|24280' "$folder/checked.yaml"
expect "and the configuration is sound" is_sound "$folder/checked.yaml" node-1
with_hosts --set 'spool.existingKeySecret=keys,filters[0].multiline.presets={java},labels.cluster=prod' \
    --set 'exclude.namespace={kube-system},spool.retain.age=7d,redaction.options.mark=true,output.identity={spiffe://example-logs/collector}' \
    --set-file redaction.rules="$folder/rules.yaml" >"$folder/checked.yaml"
expect "with more of the values" is_sound "$folder/checked.yaml" node-1
with_hosts --set 'kubernetes.mode=api,kubernetes.options.labels={app},kubernetes.options.wait=5s' \
    --set 'filters[0].multiline.presets={java}' >"$folder/checked.yaml"
expect "with labels from the API" is_sound "$folder/checked.yaml" node-1
with_hosts --set journald.enabled=true,journald.group=101,journald.options.priority=info >"$folder/checked.yaml"
expect "with the journal" is_sound "$folder/checked.yaml" node-1
expect "the collector's configuration is sound" is_sound "$folder/collector.yaml" logs.example.com
with_hosts --set spool.size=1G >"$folder/checked.yaml"
expect "a wrong value is found" refuses 'is not a size' is_sound "$folder/checked.yaml" node-1

# A spool of 3 lines, as an agent leaves it on a node; then what the Job would run there, with paths of this machine.
cat >"$folder/node.yaml" <<YAML
inputs: [container: {paths: ["$folder/app/*.log"], format: plain}]
spool: {path: "$folder/lib/spool", keys: ["$folder/spool.key"], keep_free: 0, retain: {age: 1h}}
outputs: [file: {path: "$folder/node.ndjson"}]
admin: {listen: off}
YAML
mkdir "$folder/app" "$folder/work"
printf 'pay 1 charge done\npay 2 charge failed\npay 3 charge done\n' >"$folder/app/pay.log"
: >"$folder/node.ndjson"
"$taffrail" run -c "$folder/node.yaml" 2>"$folder/node.log" &
agent=$!
tries=0
while [ "$(grep -c '"log":"pay ' "$folder/node.ndjson")" -lt 3 ] && [ $tries -lt 2400 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
kill $agent
wait $agent
words_of() { # FILE: the words of the Job's command, a line each, with the folders of this machine
    (cd "$tools/chart" && node -e '
const jobs = require("js-yaml").loadAll(require("fs").readFileSync(0, "utf8")).filter((object) => object && object.kind === "Job");
for (const word of jobs[0].spec.template.spec.containers[0].args) console.log(word);') <"$1" |
        sed -e "s#^/var/lib/taffrail#$folder/lib#" -e "s#^/etc/taffrail/taffrail.yaml#$folder/taffrail.yaml#"
}
run_job() { # FILE [SECONDS at most]
    is_sound "$1" node-1 >"$folder/check.log" || return 1
    chmod -R a-w "$folder/lib"
    words_of "$1" | (cd "$folder/work" && NODE_NAME=node-7 xargs -d '\n' timeout "${2:-60}" "$taffrail") >"$folder/found" 2>"$folder/job.log"
    code=$?
    chmod -R u+w "$folder/lib"
    return $code
}
finds() { # FILE COUNT
    run_job "$1"
    [ "$(grep -c '"log":"pay 2 charge failed"' "$folder/found")" = "$2" ] && [ "$(wc -l <"$folder/found")" = "$2" ]
}
expect "the Job prints what was asked for" finds "$folder/print.yaml" 1
expect "it says so" grep -q '^1 of [0-9]* records, 1 of 1 segment read' "$folder/job.log"
run_job "$folder/ship.yaml" 5 # nobody listens here: it waits for its collector
expect "the Job that ships keeps how far it came" [ -s "$folder/work/case-42.job" ]

# ---- what lies beside it ------------------------------------------------------------------------

mkdir "$folder/manifests"
conf/kubernetes/render "$helm" "$folder/manifests"
for name in agent collector; do
    expect "manifests/$name.yaml is what the chart renders; ./dev manifests" cmp "$folder/manifests/$name.yaml" "conf/kubernetes/manifests/$name.yaml"
done
mkdir "$folder/jobs"
cp "$folder/print.yaml" "$folder/ship.yaml" "$folder/jobs/"
for place in conf/container conf/kubernetes/manifests conf/kubernetes/taffrail "$folder/jobs"; do
    expect "$place: Trivy" "$tools/chart/trivy" --cache-dir "$tools/trivy" config --skip-policy-update --quiet \
        --severity MEDIUM,HIGH,CRITICAL --ignorefile tests/chart/trivyignore --exit-code 1 "$place"
done
expect "the dashboard is JSON" python3 -m json.tool "$chart/dashboards/taffrail.json"
if command -v promtool >/dev/null; then
    expect "the alerts are rules" promtool check rules "$chart/alerts.yaml"
else
    echo "skipped: the alerts as rules (no promtool)"
fi
# That the agent has the metrics which dashboard and alerts ask for is shown by tests/integration/test_admin.py.

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
