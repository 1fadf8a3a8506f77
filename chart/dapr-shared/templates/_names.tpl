{{/* Names and labels: those of the existing chart, so that its releases can be upgraded. */}}

{{- define "shared.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "shared.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The full name with an ending, still short enough: shared.suffixed (list . "apps"). */}}
{{- define "shared.suffixed" -}}
{{- $ending := printf "-%s" (index . 1) -}}
{{- $room := int (sub 63 (len $ending)) -}}
{{- printf "%s%s" (include "shared.fullname" (index . 0) | trunc $room | trimSuffix "-") $ending -}}
{{- end -}}

{{/* Cluster-wide objects: two releases of one name in two namespaces must not meet. */}}
{{- define "shared.clusterName" -}}
{{- printf "%s:%s:%s" (include "shared.fullname" (index . 0)) (index . 0).Release.Namespace (index . 1) -}}
{{- end -}}

{{/* `<release>-dapr`; a Service's name cannot begin with a digit. */}}
{{- define "shared.releaseService" -}}
{{- $name := printf "%s-dapr" .Release.Name | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $name }}{{ $name = printf "r-%s" $name }}{{ end -}}
{{- $name -}}
{{- end -}}

{{- define "shared.serviceAccountName" -}}
{{- $own := ternary (include "shared.fullname" .) "default" (eq (include "shared.on" .Values.shared.serviceAccount.create) "true") -}}
{{- .Values.shared.serviceAccount.name | default $own -}}
{{- end -}}

{{- define "shared.secretName" -}}
{{- .Values.shared.daprd.existingSecret | default (include "shared.fullname" .) -}}
{{- end -}}

{{- define "shared.selectorLabels" -}}
app.kubernetes.io/name: {{ include "shared.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* The last one says to the runtime's discovery that an object is the release's own. */}}
{{- define "shared.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "shared.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
shared.dapr.io/instance: {{ .Release.Name | quote }}
{{- end -}}
