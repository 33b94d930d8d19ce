{{- define "taffrail.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- end -}}

{{- define "taffrail.labels" -}}
{{ include "taffrail.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "taffrail.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "taffrail.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.image" -}}
{{- $repository := required "image.repository: where the image was pushed to" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.configMapName" -}}
{{- default (include "taffrail.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* From 1.30 on AppArmor is a field; before, an annotation for each container. */}}
{{- define "taffrail.hasAppArmorField" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version -}}yes{{- end -}}
{{- end -}}

{{- define "taffrail.appArmorAnnotation" -}}
{{- $profile := .Values.appArmorProfile -}}
{{- if eq $profile.type "RuntimeDefault" -}}
runtime/default
{{- else if eq $profile.type "Localhost" -}}
localhost/{{ $profile.localhostProfile }}
{{- else -}}
unconfined
{{- end -}}
{{- end -}}

{{/* A security context (.context) with AppArmor, where that is a field. */}}
{{- define "taffrail.securityContext" -}}
{{- $context := deepCopy .context -}}
{{- if and .root.Values.appArmorProfile (include "taffrail.hasAppArmorField" .root) -}}
{{- $_ := set $context "appArmorProfile" .root.Values.appArmorProfile -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* The port of each of output.hosts, once, as a JSON list. */}}
{{- define "taffrail.outputPorts" -}}
{{- $ports := list -}}
{{- range .Values.output.hosts -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" | default "24224" -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Where it may go: names, and the collectors. */}}
{{- define "taffrail.egress" -}}
{{- if eq .Values.mode "agent" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports:
    {{- range include "taffrail.outputPorts" . | fromJsonArray }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{ end -}}
{{- with .Values.networkPolicy.extraEgress -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* "yes" when the agent reads the journal. What lets it: the group, by whichever value; the capability; being root, who owns it. */}}
{{- define "taffrail.readsJournal" -}}
{{- if and (eq .Values.mode "agent") .Values.journald.enabled -}}
{{- $group := .Values.journald.group -}}
{{- $pod := .Values.podSecurityContext -}}
{{- $own := .Values.securityContext -}}
{{- $user := ternary $pod.runAsUser $own.runAsUser (kindIs "invalid" $own.runAsUser) -}}
{{- $isRoot := and (not (kindIs "invalid" $user)) (eq (int $user) 0) -}}
{{- $hasRight := has "DAC_READ_SEARCH" (default list (default dict $own.capabilities).add) -}}
{{- if not (or (not (kindIs "invalid" $group)) $pod.supplementalGroups $isRoot $hasRight) -}}
{{- fail "journald.enabled: the agent may read nothing of the journal; set journald.group (on a node: getent group systemd-journal), or add -f values-capability.yaml (where the nodes' groups differ), or -f values-root.yaml (where no capability may be added)" -}}
{{- end -}}
{{- if and (kindIs "string" $group) (not (regexMatch "^[0-9]+$" (toString $group))) -}}
{{- fail "journald.group: the number of the group, which getent group systemd-journal prints on a node" -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{/* "yes" when the agent asks the API server, so that it needs a role and a token. */}}
{{- define "taffrail.asksApi" -}}
{{- if not (has .Values.kubernetes.mode (list "path" "api")) }}{{ fail "kubernetes.mode: path or api; kubelet is not there yet" }}{{ end -}}
{{- if and (eq .Values.mode "agent") (eq .Values.kubernetes.mode "api") -}}yes{{- end -}}
{{- end -}}
