{{/* The name of every object. */}}
{{- define "trimtab.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* What the pods are selected by. */}}
{{- define "trimtab.selector" -}}
app.kubernetes.io/name: {{ include "trimtab.name" . }}
{{- end -}}

{{- define "trimtab.labels" -}}
{{ include "trimtab.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name, namespace and labels of an object. */}}
{{- define "trimtab.metadata" -}}
name: {{ include "trimtab.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "trimtab.labels" . | nindent 2 }}
{{- end -}}

{{- define "trimtab.clusterMetadata" -}}
name: {{ include "trimtab.name" . }}
labels:
  {{- include "trimtab.labels" . | nindent 2 }}
{{- end -}}

{{/* Not empty where there is TLS. */}}
{{- define "trimtab.tls" -}}
{{- if ne .Values.clients "nobody" }}yes{{ end -}}
{{- end -}}
