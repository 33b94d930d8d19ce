{{/* taffrail.yaml, made of the values. */}}
{{- define "taffrail.config" -}}
{{- if .Values.config -}}
{{- if kindIs "string" .Values.config }}{{ .Values.config }}{{ else }}{{ toYaml .Values.config }}{{ end -}}
{{- else -}}
{{- $log := dict "level" .Values.log.level "format" .Values.log.format -}}
{{- $agent := dict "host" "${NODE_NAME}" "log" $log "stop_timeout" .Values.stopTimeout -}}
{{- if .Values.labels }}{{ $_ := set $agent "labels" .Values.labels }}{{ end -}}
{{- $config := dict "agent" $agent "inputs" (include "taffrail.inputs" . | fromYamlArray) -}}
{{- $_ := set $config "filters" (include "taffrail.filters" . | fromYamlArray) -}}
{{- $spool := dict "path" "/var/lib/taffrail/spool" "max_size" .Values.spool.size "keep_free" .Values.spool.keepFree -}}
{{- if .Values.spool.retain }}{{ $_ := set $spool "retain" .Values.spool.retain }}{{ end -}}
{{- if .Values.spool.existingKeySecret -}}
{{- $keys := list -}}
{{- range .Values.spool.keys }}{{ $keys = append $keys (printf "/etc/taffrail/keys/%s" .) }}{{ end -}}
{{- $_ := set $spool "keys" $keys -}}
{{- end -}}
{{- $_ := set $config "spool" $spool -}}
{{- $_ := set $config "outputs" (include "taffrail.outputs" . | fromYamlArray) -}}
{{- $listen := list "off" -}}
{{- if .Values.admin.enabled }}{{ $port := int .Values.admin.port }}{{ $listen = list (printf "0.0.0.0:%d" $port) (printf "127.0.0.1:%d" (add $port 1)) }}{{ end -}}
{{- $_ := set $config "admin" (dict "listen" $listen) -}}
{{- toYaml $config -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.tls" -}}
{{- $tls := dict "ca" "/etc/taffrail/tls/ca.crt" "cert" "/etc/taffrail/tls/tls.crt" "key" "/etc/taffrail/tls/tls.key" -}}
{{- if .identity }}{{ $_ := set $tls "identity" .identity }}{{ end -}}
{{- toYaml $tls -}}
{{- end -}}

{{- define "taffrail.inputs" -}}
{{- $inputs := list -}}
{{- if eq .Values.mode "collector" -}}
{{- $allow := .Values.collector.allow -}}
{{- if not $allow }}{{ fail "collector.allow: who may send, such as [{identity: \"spiffe://example-logs/node/*\"}]" }}{{ end -}}
{{- $forward := dict "listen" "0.0.0.0:24224" "tls" (include "taffrail.tls" (dict) | fromYaml) "allow" $allow -}}
{{- $inputs = append $inputs (dict "forward" $forward) -}}
{{- else -}}
{{- $container := dict -}}
{{- if .Values.logPaths }}{{ $_ := set $container "paths" .Values.logPaths }}{{ end -}}
{{- if .Values.include }}{{ $_ := set $container "include" .Values.include }}{{ end -}}
{{- if .Values.exclude }}{{ $_ := set $container "exclude" .Values.exclude }}{{ end -}}
{{- $inputs = append $inputs (dict "container" $container) -}}
{{- if .Values.journald.enabled -}}
{{- $journald := merge (dict "paths" .Values.journald.paths) .Values.journald.options -}}
{{- $inputs = append $inputs (dict "journald" $journald) -}}
{{- end -}}
{{- end -}}
{{- toYaml $inputs -}}
{{- end -}}

{{- define "taffrail.filters" -}}
{{- $redact := deepCopy .Values.redaction.options -}}
{{- if .Values.redaction.rules }}{{ $_ := set $redact "rules" (list "/etc/taffrail/rules.yaml") }}{{ end -}}
{{- $filters := append .Values.filters (dict "redact" $redact) -}}
{{- if include "taffrail.asksApi" . }}{{ $filters = prepend $filters (dict "kubernetes" (merge (dict "node" "${NODE_NAME}") .Values.kubernetes.options)) }}{{ end -}}
{{- toYaml $filters -}}
{{- end -}}

{{- define "taffrail.outputs" -}}
{{- if eq .Values.mode "collector" -}}
{{- toYaml (default (list (dict "file" (dict "path" "/var/lib/taffrail/records.ndjson"))) .Values.collector.outputs) -}}
{{- else -}}
{{- $hosts := .Values.output.hosts -}}
{{- if not $hosts }}{{ fail "output.hosts: the collectors, such as [logs.example.com]" }}{{ end -}}
{{- $tls := include "taffrail.tls" (dict "identity" .Values.output.identity) | fromYaml -}}
{{- $forward := merge (dict "hosts" $hosts "tls" $tls) .Values.output.options -}}
{{- toYaml (list (dict "forward" $forward)) -}}
{{- end -}}
{{- end -}}
