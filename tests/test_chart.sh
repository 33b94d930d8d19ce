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
with_hosts --kube-version 1.29 --set spool.hostPath= >"$folder/old.yaml"
render -f "$chart/values-collector.yaml" >"$folder/collector.yaml"
with_hosts --set 'kubernetes.mode=api,kubernetes.options.annotations={team/*},filters[0].multiline.presets={java}' >"$folder/api.yaml"

expect "helm lint" "$helm" lint --quiet "$chart" --set 'image.repository=t,tls.existingSecret=t,output.hosts={a}'
cat "$folder/api.yaml" >"$folder/all.yaml"
for way in agent everything root old collector; do
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
            if (!mount.readOnly && mount.name !== "data") throw new Error(`${mount.name} is mounted to be written`);
        }
    }
    if (used.size !== volumes.size) throw new Error(`mounted ${[...used]}, declared ${[...volumes.keys()]}`);
}
JS
mounts_are_sound() {
    (cd "$tools/chart" && cp "$folder/mounts.js" . && node mounts.js) <"$1"
}
for way in agent api everything root old collector; do
    expect "$way: mounts" mounts_are_sound "$folder/$way.yaml"
done

# A changed configuration restarts the pods.
checksum() {
    grep -o 'checksum/config: .*' "$1"
}
with_hosts --set log.level=debug >"$folder/debug.yaml"
expect "another configuration, another checksum" [ "$(checksum "$folder/agent.yaml")" != "$(checksum "$folder/debug.yaml")" ]

# ---- what the agent says of the configuration ---------------------------------------------------

# Certificates where the pod has them, and where a spool can be made. The admin endpoint is left out: this agent may not have it.
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
with_hosts --set admin.enabled=false >"$folder/checked.yaml"
expect "the agent's configuration is sound" is_sound "$folder/checked.yaml" node-1
with_hosts --set admin.enabled=false --set 'spool.existingKeySecret=keys,filters[0].multiline.presets={java},labels.cluster=prod' \
    --set 'exclude.namespace={kube-system},spool.retain.age=7d,redaction.options.mark=true,output.identity={spiffe://example-logs/collector}' \
    --set-file redaction.rules="$folder/rules.yaml" >"$folder/checked.yaml"
expect "with more of the values" is_sound "$folder/checked.yaml" node-1
with_hosts --set 'admin.enabled=false,kubernetes.mode=api,kubernetes.options.labels={app},kubernetes.options.wait=5s' \
    --set 'filters[0].multiline.presets={java}' >"$folder/checked.yaml"
expect "with labels from the API" is_sound "$folder/checked.yaml" node-1
with_hosts --set admin.enabled=false,journald.enabled=true,journald.options.priority=info >"$folder/checked.yaml"
expect "with the journal" is_sound "$folder/checked.yaml" node-1
render -f "$chart/values-collector.yaml" --set admin.enabled=false >"$folder/checked.yaml"
expect "the collector's configuration is sound" is_sound "$folder/checked.yaml" logs.example.com
with_hosts --set admin.enabled=false,spool.size=1G >"$folder/checked.yaml"
expect "a wrong value is found" refuses 'is not a size' is_sound "$folder/checked.yaml" node-1

# ---- what lies beside it ------------------------------------------------------------------------

mkdir "$folder/manifests"
conf/kubernetes/render "$helm" "$folder/manifests"
for name in agent collector; do
    expect "manifests/$name.yaml is what the chart renders; ./dev manifests" cmp "$folder/manifests/$name.yaml" "conf/kubernetes/manifests/$name.yaml"
done
for place in conf/container conf/kubernetes/manifests conf/kubernetes/taffrail; do
    expect "$place: Trivy" "$tools/chart/trivy" --cache-dir "$tools/trivy" config --skip-policy-update --quiet \
        --severity MEDIUM,HIGH,CRITICAL --ignorefile tests/chart/trivyignore --exit-code 1 "$place"
done
expect "the dashboard is JSON" python3 -m json.tool "$chart/dashboards/taffrail.json"
if command -v promtool >/dev/null; then
    expect "the alerts are rules" promtool check rules "$chart/alerts.yaml"
else
    echo "skipped: the alerts as rules (no promtool)"
fi
# Metrics that a dashboard or an alert asks for exist, once the agent has any.
if grep -rq '"taffrail_output_up"' agent; then
    metrics=$(grep -ohE 'taffrail_[a-z_]+' "$chart/alerts.yaml" "$chart/dashboards/taffrail.json" | sed 's/_bucket$//' | sort -u)
    for metric in $metrics; do
        expect "metric $metric" grep -rqw "$metric" agent
    done
else
    echo "skipped: names of metrics (this agent has none)"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
