{{/* The chart's name, as a label. */}}
{{- define "roomcast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of what the chart makes. Shorter than 63 letters, because Services get an ending. */}}
{{- define "roomcast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "roomcast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "roomcast.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods: never changes within a release. */}}
{{- define "roomcast.selector" -}}
app.kubernetes.io/name: {{ include "roomcast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "roomcast.labels" -}}
{{ include "roomcast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "roomcast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "roomcast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Refuses what would start and not work, with a sentence that says what to do. */}}
{{- define "roomcast.check" -}}
{{- $several := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $several (not .Values.redis.enabled) -}}
{{- fail "More than one node needs Redis, else members on one node would not hear what is published on another: set redis.enabled=true and redis.servers, or replicas=1 and autoscaling.enabled=false." -}}
{{- end -}}
{{- if .Values.redis.enabled -}}
{{- if not .Values.redis.servers -}}
{{- fail "redis.enabled needs to know where Redis is: set redis.servers to a list of host:port." -}}
{{- end -}}
{{- if and (eq .Values.redis.topology "sentinel") (not .Values.redis.sentinelService) -}}
{{- fail "redis.topology=sentinel needs the master's name: set redis.sentinelService as the Sentinels know it." -}}
{{- end -}}
{{- if and (ne .Values.redis.topology "sentinel") (or .Values.redis.sentinelService .Values.redis.sentinelUsername .Values.redis.sentinelPassword) -}}
{{- fail "redis.sentinelService, sentinelUsername and sentinelPassword are of use with redis.topology=sentinel only: set that, or leave them out." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas: swap them." -}}
{{- end -}}
{{- if gt (int .Values.drain.windowSeconds) (int .Values.drain.deadlineSeconds) -}}
{{- fail "drain.windowSeconds is above drain.deadlineSeconds: shorten the window, or lengthen the deadline." -}}
{{- end -}}
{{- end -}}

{{/* The Secret that a reference means. Takes {root, ref}. */}}
{{- define "roomcast.secretOf" -}}
{{- $name := default .root.Values.secretName .ref.name -}}
{{- if not $name -}}
{{- fail (printf "The secret with the key %q is in no Secret: set secretName, or name one beside the key." .ref.key) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The file that a reference becomes. Takes {root, ref}. */}}
{{- define "roomcast.secretFile" -}}
/run/secrets/roomcast/{{ include "roomcast.secretOf" . }}/{{ .ref.key }}
{{- end -}}

{{/* All references as a JSON list of {name, key}, each once. */}}
{{- define "roomcast.secrets" -}}
{{- $root := . -}}
{{- $refs := list -}}
{{- range .Values.issuers }}{{ range .keys }}{{ $refs = append $refs .secret }}{{ end }}{{ end -}}
{{- range .Values.apiKeys }}{{ $refs = append $refs .secret }}{{ end -}}
{{- if .Values.redis.enabled -}}
{{- range list .Values.redis.password .Values.redis.sentinelPassword .Values.relay.key .Values.relay.previousKey }}{{ if . }}{{ $refs = append $refs . }}{{ end }}{{ end -}}
{{- if and .Values.redis.tls.enabled .Values.redis.tls.ca }}{{ $refs = append $refs .Values.redis.tls.ca }}{{ end -}}
{{- end -}}
{{- $all := list -}}
{{- range $refs -}}
{{- $all = append $all (dict "name" (include "roomcast.secretOf" (dict "root" $root "ref" .)) "key" .key) -}}
{{- end -}}
{{- $all | uniq | toJson -}}
{{- end -}}

{{/* One table of TOML from a flat map: a JSON text, number, list or truth value is one of TOML as well. */}}
{{- define "roomcast.table" -}}
{{- range $key := keys . | sortAlpha }}
{{ $key }} = {{ index $ $key | toJson }}
{{- end }}
{{- end -}}

{{/* roomcast.toml. */}}
{{- define "roomcast.toml" -}}
{{- $root := . -}}
{{- $sections := dict "listen" (dict "public" "0.0.0.0:8080" "internal" "0.0.0.0:9090") -}}
{{- $drain := dict "window" (printf "%ds" (int .Values.drain.windowSeconds)) "deadline" (printf "%ds" (int .Values.drain.deadlineSeconds)) -}}
{{- $sections = set $sections "drain" (set $drain "rate" (int .Values.drain.rate)) -}}
{{- if .Values.redis.enabled -}}
{{- $redis := dict "topology" .Values.redis.topology "servers" .Values.redis.servers -}}
{{- with .Values.redis.sentinelService }}{{ $redis = set $redis "sentinel_service" . }}{{ end -}}
{{- with .Values.redis.username }}{{ $redis = set $redis "username" . }}{{ end -}}
{{- with .Values.redis.sentinelUsername }}{{ $redis = set $redis "sentinel_username" . }}{{ end -}}
{{- range $key, $ref := dict "password_file" .Values.redis.password "sentinel_password_file" .Values.redis.sentinelPassword -}}
{{- if $ref }}{{ $redis = set $redis $key (include "roomcast.secretFile" (dict "root" $root "ref" $ref)) }}{{ end -}}
{{- end -}}
{{- if .Values.redis.tls.enabled -}}
{{- $redis = set $redis "tls" true -}}
{{- with .Values.redis.tls.ca -}}
{{- $redis = set $redis "tls_ca_file" (include "roomcast.secretFile" (dict "root" $root "ref" .)) -}}
{{- end -}}
{{- end -}}
{{- $relay := dict "mode" .Values.relay.mode "format" .Values.relay.format -}}
{{- range $key, $ref := dict "key_file" .Values.relay.key "previous_key_file" .Values.relay.previousKey -}}
{{- if $ref }}{{ $relay = set $relay $key (include "roomcast.secretFile" (dict "root" $root "ref" $ref)) }}{{ end -}}
{{- end -}}
{{- $sections = merge $sections (dict "broker" (dict "kind" "redis") "redis" $redis "relay" $relay) -}}
{{- end -}}
{{- $sections = merge $sections .Values.config -}}
# Made by the chart from its values.
{{- range $name := keys $sections | sortAlpha }}

[{{ $name }}]
{{- include "roomcast.table" (index $sections $name) }}
{{- end }}
{{- range .Values.issuers }}

[[auth.issuers]]
issuer = {{ .issuer | toJson }}
audience = {{ .audience | toJson }}
{{- with .realm }}
realm = {{ . | toJson }}
{{- end }}
allow_backend = {{ default false .allowBackend }}
{{- range .keys }}

[[auth.issuers.keys]]
{{- with .kid }}
kid = {{ . | toJson }}
{{- end }}
secret_file = {{ include "roomcast.secretFile" (dict "root" $root "ref" .secret) | toJson }}
{{- end }}
{{- end }}
{{- range .Values.apiKeys }}

[[api.keys]]
name = {{ .name | toJson }}
secret_file = {{ include "roomcast.secretFile" (dict "root" $root "ref" .secret) | toJson }}
{{- end }}
{{- range .Values.rooms }}

[[rooms]]
{{- include "roomcast.table" . }}
{{- end }}
{{- end -}}
