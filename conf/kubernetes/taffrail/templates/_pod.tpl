{{/* The pod, of a DaemonSet or a StatefulSet. */}}
{{- define "taffrail.podTemplate" -}}
metadata:
  labels:
    {{- include "taffrail.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if not .Values.existingConfigMap }}
    checksum/config: {{ printf "%s\n%s" (include "taffrail.config" .) .Values.redaction.rules | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: taffrail
    {{- if and .Values.appArmorProfile (not (include "taffrail.hasAppArmorField" .)) }}
    container.apparmor.security.beta.kubernetes.io/taffrail: {{ include "taffrail.appArmorAnnotation" . }}
    {{- if include "taffrail.ownsFolder" . }}
    container.apparmor.security.beta.kubernetes.io/own-folder: {{ include "taffrail.appArmorAnnotation" . }}
    {{- end }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "taffrail.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- $pod := deepCopy .Values.podSecurityContext }}
    {{- if and (include "taffrail.readsJournal" .) (not (kindIs "invalid" .Values.journald.group)) }}
    {{- $_ := set $pod "supplementalGroups" (append (default list $pod.supplementalGroups) (int .Values.journald.group)) }}
    {{- end }}
    {{- include "taffrail.securityContext" (dict "context" $pod "root" .) | nindent 4 }}
  {{- if or (include "taffrail.ownsFolder" .) .Values.initContainers }}
  initContainers:
    {{- if include "taffrail.ownsFolder" . }}
    - name: own-folder
      image: {{ include "taffrail.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [/usr/libexec/taffrail/own-folder, /var/lib/taffrail]
      securityContext:
        {{- $root := deepCopy .Values.securityContext }}
        {{- $_ := set $root "runAsNonRoot" false }}
        {{- $_ := set $root "runAsUser" 0 }}
        {{- $_ := set $root "allowPrivilegeEscalation" false }}
        {{- $_ := set $root "capabilities" (dict "drop" (list "ALL") "add" (list "CHOWN")) }}
        {{- include "taffrail.securityContext" (dict "context" $root "root" .) | nindent 8 }}
      resources:
        requests: {cpu: 10m, memory: 8Mi}
        limits: {memory: 16Mi}
      volumeMounts:
        - {name: data, mountPath: /var/lib/taffrail}
    {{- end }}
    {{- with .Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: taffrail
      image: {{ include "taffrail.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, -c, /etc/taffrail/taffrail.yaml]
      securityContext:
        {{- include "taffrail.securityContext" (dict "context" .Values.securityContext "root" .) | nindent 8 }}
      env:
        - name: NODE_NAME
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or .Values.admin.enabled (eq .Values.mode "collector") }}
      ports:
        {{- if .Values.admin.enabled }}
        - {name: admin, containerPort: {{ .Values.admin.port }}, protocol: TCP}
        {{- end }}
        {{- if eq .Values.mode "collector" }}
        - {name: forward, containerPort: 24224, protocol: TCP}
        {{- end }}
      {{- end }}
      {{- if .Values.admin.enabled }}
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "taffrail.configMounts" . | nindent 8 }}
        - {name: data, mountPath: /var/lib/taffrail}
        {{- if include "taffrail.asksApi" . }}
        - {name: api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
        {{- end }}
        {{- if eq .Values.mode "agent" }}
        - {name: pods, mountPath: /var/log/pods, readOnly: true}
        {{- if .Values.docker }}
        - {name: docker, mountPath: /var/lib/docker/containers, readOnly: true}
        {{- end }}
        {{- if .Values.journald.enabled }}
        {{- range $i, $path := .Values.journald.paths }}
        - {name: journal-{{ $i }}, mountPath: {{ $path }}, readOnly: true}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "taffrail.configVolumes" . | nindent 4 }}
    {{- if include "taffrail.asksApi" . }}
    - name: api # as Kubernetes would mount it into every container; here into the agent's alone
      projected:
        defaultMode: 288 # 0440
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 3600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
    {{- if eq .Values.mode "agent" }}
    - name: data
      {{- if .Values.spool.hostPath }}
      hostPath: {path: {{ .Values.spool.hostPath }}, type: DirectoryOrCreate}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: pods
      hostPath: {path: /var/log/pods, type: Directory}
    {{- if .Values.docker }}
    - name: docker
      hostPath: {path: /var/lib/docker/containers, type: Directory}
    {{- end }}
    {{- if .Values.journald.enabled }}
    {{- range $i, $path := .Values.journald.paths }}
    - name: journal-{{ $i }}
      hostPath: {path: {{ $path }}, type: Directory}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What a configuration names, where it is named; a Job has the same. */}}
{{- define "taffrail.configMounts" -}}
- {name: config, mountPath: /etc/taffrail/taffrail.yaml, subPath: taffrail.yaml, readOnly: true}
{{- if .Values.redaction.rules }}
- {name: config, mountPath: /etc/taffrail/rules.yaml, subPath: rules.yaml, readOnly: true}
{{- end }}
- {name: tls, mountPath: /etc/taffrail/tls, readOnly: true}
{{- if .Values.spool.existingKeySecret }}
- {name: keys, mountPath: /etc/taffrail/keys, readOnly: true}
{{- end }}
{{- end -}}

{{- define "taffrail.configVolumes" -}}
- name: config
  configMap: {name: {{ include "taffrail.configMapName" . }}}
- name: tls
  secret:
    secretName: {{ required "tls.existingSecret: a Secret with CA, certificate and key" .Values.tls.existingSecret }}
    defaultMode: 288 # 0440
    items:
      - {key: {{ .Values.tls.caKey }}, path: ca.crt}
      - {key: {{ .Values.tls.certKey }}, path: tls.crt}
      - {key: {{ .Values.tls.keyKey }}, path: tls.key}
{{- with .Values.spool.existingKeySecret }}
- name: keys
  secret: {secretName: {{ . }}, defaultMode: 288} # 0440
{{- end }}
{{- end -}}

{{- define "taffrail.ownsFolder" -}}
{{- if and (eq .Values.mode "agent") .Values.spool.hostPath .Values.spool.ownFolder -}}yes{{- end -}}
{{- end -}}
