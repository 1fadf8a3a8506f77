{{/* What the runtime may do: each rule with what it is for. */}}

{{/* In each watched namespace. */}}
{{- define "shared.rules.watch" -}}
{{- $multi := include "shared.multiApp" . -}}
{{- $discover := .Values.shared.discover | default (list "apps" "services" "pods") -}}
{{- if kindIs "string" $discover }}{{ $discover = splitList "," $discover }}{{ end -}}
# Dapr's resources, followed as they change. One app has one Configuration, which is read by name.
- apiGroups: [dapr.io]
  resources: [components, {{ if $multi }}configurations, {{ end }}httpendpoints, resiliencies, subscriptions]
  verbs: [list, watch]
{{- if $multi }}
{{- if has "apps" $discover }}
# Apps, and what became of them.
- apiGroups: [shared.dapr.io]
  resources: [apps]
  verbs: [list, watch]
- apiGroups: [shared.dapr.io]
  resources: [apps/status]
  verbs: [patch]
{{- end }}
{{- if has "services" $discover }}
# Annotated Services are apps.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
{{- end }}
{{- $identity := .Values.shared.identity }}
{{- $verbs := list }}
{{- if or (has "pods" $discover) $identity.serviceAccountAudience }}{{ $verbs = append $verbs "get" }}{{ end }}
{{- if or (has "pods" $discover) (include "shared.on" $identity.byAddress) }}{{ $verbs = concat $verbs (list "list" "watch") }}{{ end }}
{{- with $verbs }}
# Annotated Pods are apps, followed and read one at a time; a token is of a Pod, which is read, an address of one of the
# node's, which are followed.
- apiGroups: [""]
  resources: [pods]
  verbs: [{{ join ", " . }}]
{{- end }}
# What is wrong with an object is told beside it.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- end -}}

{{/* Where Secrets are read: one at a time, by name; with those that `apps` name. (list . namespace); "*": everywhere. */}}
{{- define "shared.rules.secrets" -}}
{{- $root := index . 0 -}}
{{- $namespace := index . 1 -}}
- apiGroups: [""]
  resources: [secrets]
  {{- with $root.Values.shared.secrets.names }}
  {{- $names := . }}
  {{- range $app := $root.Values.apps }}
  {{- if has $namespace (list "*" ($app.namespace | default $root.Release.Namespace)) }}
  {{- with include "shared.appTokenSecret" (list $root $app) }}{{ $names = append $names . }}{{ end }}
  {{- range concat ($app.tokens | default list) (list (($app.channel | default dict).apiToken | default dict)) }}
  {{- with .secretKeyRef }}{{ $names = append $names .name }}{{ end }}
  {{- end }}
  {{- end }}
  {{- end }}
  resourceNames:
    {{- range uniq $names }}
    - {{ . | quote }}
    {{- end }}
  {{- end }}
  verbs: [get]
{{- end -}}

{{/* In the release's namespace: its Configuration; Leases: which instance writes the status of Apps, and what each knows of
them, which that one watches. May be empty. */}}
{{- define "shared.rules.own" -}}
{{- with .Values.shared.daprd.config -}}
- apiGroups: [dapr.io]
  resources: [configurations]
  resourceNames: [{{ quote . }}]
  verbs: [get]
{{ end -}}
{{- if include "shared.multiApp" . -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update]
{{- end -}}
{{- end -}}

{{/* Cluster-wide, where service account tokens prove apps. */}}
{{- define "shared.rules.tokens" -}}
{{- if eq .Values.shared.identity.serviceAccountVerification "keys" -}}
- nonResourceURLs: [/.well-known/openid-configuration, /openid/v1/jwks]
  verbs: [get]
{{- else -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end -}}
{{- end -}}

{{/* A role and its binding: (dict "root" . "name" … "namespace" … "rules" …); without a namespace, of the cluster. */}}
{{- define "shared.role" -}}
{{- $root := .root -}}
{{- $scope := ternary "" "Cluster" (not (empty .namespace)) -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}Role
metadata:
  name: {{ .name | quote }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "shared.labels" $root | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  name: {{ .name | quote }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "shared.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "shared.serviceAccountName" $root | quote }}
    namespace: {{ $root.Release.Namespace | quote }}
{{ end -}}
