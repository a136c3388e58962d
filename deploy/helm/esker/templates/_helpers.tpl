{{- define "esker.name" -}}
{{- if contains "esker" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-esker" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "esker.selector" -}}
app.kubernetes.io/name: esker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "esker.labels" -}}
{{ include "esker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The DNS name of a pod is <pod>.<this>. */}}
{{- define "esker.domain" -}}
{{ include "esker.name" . }}-nodes.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The addresses of all nodes: each node forms the cluster with them, or joins it. */}}
{{- define "esker.join" -}}
{{- $addresses := list }}
{{- range $i := until (int .Values.replicas) }}
{{- $addresses = append $addresses (printf "%s-%d.%s:%d" (include "esker.name" $) $i (include "esker.domain" $) (int $.Values.ports.kafka)) }}
{{- end }}
{{- join "," $addresses }}
{{- end }}

{{- define "esker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
