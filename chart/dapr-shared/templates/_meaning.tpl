{{/* What the values mean, decided once: modes, namespaces, tokens, and what cannot be. */}}

{{/* "true" or "": values from `--set-string` and old files are texts now and then. */}}
{{- define "shared.on" -}}
{{- if eq (toString .) "true" }}true{{ end -}}
{{- end -}}

{{/* A value as a flag has it: YAML's numbers are floats, which Go writes as 1e+06. */}}
{{- define "shared.text" -}}
{{- if kindIs "invalid" . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}
{{- else if kindIs "slice" . -}}{{ join "," . }}
{{- else -}}{{ toString . }}
{{- end -}}
{{- end -}}

{{- define "shared.multiApp" -}}
{{- if not .Values.shared.multiApp -}}
{{- fail "the values lack .Values.shared.multiApp, which this chart's own values have: with `helm upgrade --reuse-values` those of the old chart are all there is. Use --reset-then-reuse-values, or give your values file" -}}
{{- end -}}
{{- if or .Values.apps (eq (include "shared.on" .Values.shared.multiApp.enabled) "true") }}true{{ end -}}
{{- end -}}

{{/* The app id: required in single-app mode, and able to name a Service wherever it is given. */}}
{{- define "shared.appId" -}}
{{- $id := .Values.shared.appId -}}
{{- if not (include "shared.multiApp" .) }}{{ $id = required ".Values.shared.appId is required" $id }}{{ end -}}
{{- if $id }}{{ include "shared.appIdIsGood" (list ".Values.shared.appId" $id) }}{{ end -}}
{{- $id -}}
{{- end -}}

{{- define "shared.appIdIsGood" -}}
{{- $id := toString (index . 1) -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,56}[a-z0-9])?$" $id) -}}
{{- fail (printf "%s is %q, which cannot name the Service <appId>-dapr: use 1 to 58 lower-case letters, digits and '-', beginning with a letter, not '-' at the end" (index . 0) $id) -}}
{{- end -}}
{{- end -}}

{{/* Everything that makes a release impossible, in one place. Both workloads and the Services ask. */}}
{{- define "shared.check" -}}
{{- $multi := include "shared.multiApp" . -}}
{{- $id := include "shared.appId" . -}}
{{- if $id -}}
{{- $_ := required ".Values.shared.remotePort is required" .Values.shared.remotePort -}}
{{- $_ := required ".Values.shared.daprd.app.protocol is required" .Values.shared.daprd.app.protocol -}}
{{- end -}}
{{- if not (has (toString .Values.shared.strategy) (list "daemonset" "deployment")) -}}
{{- fail (printf ".Values.shared.strategy is %q: use daemonset or deployment" (toString .Values.shared.strategy)) -}}
{{- end -}}
{{- if and (include "shared.on" .Values.shared.hostPort.enabled) (ne .Values.shared.strategy "daemonset") -}}
{{- fail ".Values.shared.hostPort.enabled is for the strategy daemonset: two replicas cannot have one port of a node" -}}
{{- end -}}
{{- if not $multi -}}
{{- range $name, $value := dict "watchNamespaces" .Values.shared.watchNamespaces "discover" .Values.shared.discover "identity.serviceAccountAudience" .Values.shared.identity.serviceAccountAudience "identity.byAddress" (include "shared.on" .Values.shared.identity.byAddress) -}}
{{- if $value }}{{ fail (printf ".Values.shared.%s is for many apps: set .Values.shared.multiApp.enabled too" $name) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $watched := include "shared.namespaces" . | fromJsonArray -}}
{{- if and $id (not (has "*" $watched)) (not (has .Release.Namespace $watched)) -}}
{{- fail (printf ".Values.shared.watchNamespaces lacks %s, the release's namespace, where the app %s is" .Release.Namespace $id) -}}
{{- end -}}
{{- $seen := dict -}}
{{- if $id }}{{ $_ := set $seen (printf "%s/%s" .Release.Namespace $id) ".Values.shared.appId" }}{{ end -}}
{{- range $index, $app := .Values.apps -}}
{{- $place := printf ".Values.apps[%d]" $index -}}
{{- $appId := required (printf "%s.appId is required" $place) $app.appId -}}
{{- $namespace := $app.namespace | default $.Release.Namespace -}}
{{- $key := printf "%s/%s" $namespace $appId -}}
{{- with get $seen $key }}{{ fail (printf "%s.appId: %s is the app of %s already" $place $appId .) }}{{ end -}}
{{- $_ := set $seen $key $place -}}
{{- if not (or (has "*" $watched) (has $namespace $watched)) -}}
{{- fail (printf "%s.namespace: %s is not among .Values.shared.watchNamespaces" $place $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that are watched, as JSON. */}}
{{- define "shared.namespaces" -}}
{{- $given := .Values.shared.watchNamespaces -}}
{{- if kindIs "string" $given }}{{ $given = splitList "," $given | compact }}{{ end -}}
{{- if has "*" ($given | default list) }}{{ $given = list "*" }}{{ end -}}
{{- $given | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* Where Secrets may be read, as JSON. */}}
{{- define "shared.secretNamespaces" -}}
{{- .Values.shared.secrets.namespaces | default (include "shared.namespaces" . | fromJsonArray) | uniq | toJson -}}
{{- end -}}

{{/* Which Secret a generated token of an app of `apps` is in; "": the app has evidence of its own, or is elsewhere. */}}
{{- define "shared.appTokenSecret" -}}
{{- $root := index . 0 -}}
{{- $app := index . 1 -}}
{{- if and (eq ($app.namespace | default $root.Release.Namespace) $root.Release.Namespace) (not $app.tokens) (not $app.certificates) (not $app.serviceAccount) -}}
{{- include "shared.appIdIsGood" (list "an appId of .Values.apps" $app.appId) -}}
{{- printf "%s-dapr-token" $app.appId -}}
{{- end -}}
{{- end -}}

{{/* A token, base64: the given one, else the one that is there, else a new one: (list . given secret key). */}}
{{- define "shared.token" -}}
{{- $root := index . 0 -}}
{{- $there := lookup "v1" "Secret" $root.Release.Namespace (index . 2) | default dict -}}
{{- $old := get ($there.data | default dict) (index . 3) -}}
{{- if index . 1 }}{{ include "shared.text" (index . 1) | b64enc }}{{ else if $old }}{{ $old }}{{ else }}{{ randAlphaNum 40 | b64enc }}{{ end -}}
{{- end -}}

{{/* Images of Dapr's own daprd, which files written for the existing chart name, are not ours: ours is used. */}}
{{- define "shared.image" -}}
{{- $image := .Values.shared.daprd.image -}}
{{- if include "shared.namesDaprd" . }}{{ $image = dict "registry" "localhost" "name" "dapr-shared" "tag" "" }}{{ end -}}
{{- $name := printf "%s:%s" $image.name (include "shared.text" ($image.tag | default .Chart.AppVersion)) -}}
{{- if $image.registry }}{{ printf "%s/%s" (trimSuffix "/" $image.registry) $name }}{{ else }}{{ $name }}{{ end -}}
{{- end -}}

{{- define "shared.namesDaprd" -}}
{{- $image := .Values.shared.daprd.image -}}
{{- if and (eq (toString $image.name) "daprd") (has (toString $image.registry) (list "docker.io/daprio" "daprio" "index.docker.io/daprio" "registry-1.docker.io/daprio" "ghcr.io/dapr")) }}true{{ end -}}
{{- end -}}

{{- define "shared.pullSecrets" -}}
{{- $given := .Values.imagePullSecrets -}}
{{- if $given -}}
{{- if not (kindIs "slice" $given) }}{{ $given = list $given }}{{ end -}}
imagePullSecrets:
{{- range $given }}
  - name: {{ if kindIs "string" . }}{{ quote . }}{{ else }}{{ quote .name }}{{ end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Seconds that calls in flight may take: daprd turns negatives into 5; 0, no limit, gets a minute here. */}}
{{- define "shared.gracefulSeconds" -}}
{{- $given := int (.Values.shared.daprd.gracefulShutdownSeconds | toString) -}}
{{- if lt $given 0 }}5{{ else if eq $given 0 }}60{{ else }}{{ $given }}{{ end -}}
{{- end -}}

{{- define "shared.graceSeconds" -}}
{{- .Values.shared.terminationGracePeriodSeconds | default (add (int .Values.shared.preStopSeconds) (int (include "shared.gracefulSeconds" .)) 10) | int -}}
{{- end -}}
