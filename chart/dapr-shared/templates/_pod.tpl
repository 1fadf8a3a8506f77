{{/* The pod of both workloads. Order of arguments, environment and ports is part of the interface. */}}
{{- define "shared.pod" -}}
{{- include "shared.check" . -}}
{{- $shared := .Values.shared -}}
{{- $daprd := $shared.daprd -}}
{{- $id := include "shared.appId" . -}}
{{- $multi := include "shared.multiApp" . -}}
metadata:
  annotations:
    {{- if $id }}
    dapr.io/app-id: {{ $id | quote }}
    {{- if $daprd.config }}
    dapr.io/config: {{ $daprd.config | quote }}
    {{- end }}
    {{- end }}
    {{- if include "shared.on" $daprd.metrics.annotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ include "shared.text" $daprd.metrics.port | quote }}
    prometheus.io/path: /
    {{- end }}
    kubectl.kubernetes.io/default-container: daprd
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- if $id }}
    dapr.io/app-id: {{ $id | quote }}
    {{- end }}
    {{- include "shared.selectorLabels" . | nindent 4 }}
    shared.dapr.io/instance: {{ .Release.Name | quote }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with include "shared.pullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ include "shared.serviceAccountName" . | quote }}
  {{- with $shared.scheduling.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "shared.graceSeconds" . }}
  containers:
    - name: daprd
      image: {{ include "shared.image" . | quote }}
      imagePullPolicy: {{ $daprd.image.pullPolicy | default "IfNotPresent" | quote }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      args:
        {{- include "shared.args" . | trim | nindent 8 }}
      env:
        {{- include "shared.env" . | nindent 8 }}
      ports:
        - name: http
          containerPort: {{ int $daprd.httpPort }}
          {{- if include "shared.on" $shared.hostPort.enabled }}
          hostPort: {{ int ($shared.hostPort.http | default $daprd.httpPort) }}
          {{- end }}
          protocol: TCP
        - name: grpc
          containerPort: {{ int $daprd.grpcPort }}
          {{- if include "shared.on" $shared.hostPort.enabled }}
          hostPort: {{ int ($shared.hostPort.grpc | default $daprd.grpcPort) }}
          {{- end }}
          protocol: TCP
        - name: internal-grpc
          containerPort: {{ int $daprd.internalGrpcPort }}
          protocol: TCP
        - name: public-http
          containerPort: {{ int $daprd.publicPort }}
          protocol: TCP
        - name: metrics
          containerPort: {{ int $daprd.metrics.port }}
          protocol: TCP
      # The app has no part in these: it may be away, and an instance is not to be started again for that.
      startupProbe:
        httpGet: { path: /livez, port: public-http }
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: public-http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /readyz, port: public-http }
        periodSeconds: 3
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if gt (int $shared.preStopSeconds) 0 }}
      lifecycle:
        preStop:
          {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
          sleep: { seconds: {{ int $shared.preStopSeconds }} }
          {{- else }}
          exec: { command: [python3, -c, "import time; time.sleep({{ int $shared.preStopSeconds }})"] }
          {{- end }}
      {{- end }}
      {{- with $shared.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: dapr-identity-token
          mountPath: /var/run/secrets/dapr.io/sentrytoken
          readOnly: true
        - name: shared-data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
        {{- if $multi }}
        - name: apps
          mountPath: /etc/dapr-shared/apps
          readOnly: true
        {{- end }}
        {{- with $shared.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: dapr-identity-token
      projected:
        defaultMode: 420
        sources:
          - serviceAccountToken:
              audience: {{ $daprd.serviceAccountIdentityToken.audience | quote }}
              expirationSeconds: 7200
              path: token
    - name: shared-data
      emptyDir: {}
    - name: tmp
      emptyDir: {}
    {{- if $multi }}
    # A change reaches the running pods: there is no checksum of it in the pod, and it is mounted as a folder.
    - name: apps
      configMap:
        name: {{ include "shared.suffixed" (list . "apps") }}
    {{- end }}
    {{- with $shared.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $shared.scheduling.nodeSelector }}
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
  {{- if and (eq $shared.strategy "deployment") (include "shared.on" $shared.deployment.topologySpread.enabled) }}
  topologySpreadConstraints:
    {{- /* Of nodes alone: where nodes have no zone, a constraint of zones takes them all out of account. */}}
    {{- $soft := dict "topologyKey" "kubernetes.io/hostname" "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
    {{- if semverCompare ">=1.27.0-0" .Capabilities.KubeVersion.Version }}
    {{- $_ := set $soft "matchLabelKeys" (list "pod-template-hash") }}
    {{- end }}
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "shared.selectorLabels" . | fromYaml)) }}
    {{- range $shared.deployment.topologySpread.constraints | default (list $soft) }}
    - {{- merge dict . $selector | toYaml | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Arguments 0 to 26 are daprd's and in the order of the existing chart; our own come after them. */}}
{{- define "shared.args" -}}
{{- $shared := .Values.shared -}}
{{- $daprd := $shared.daprd -}}
{{- $id := include "shared.appId" . -}}
{{- $multi := include "shared.multiApp" . -}}
{{- $peer := dict -}}
{{- range $name := list "operator" "placementServer" "sentry" -}}
{{- $one := get $shared.controlPlane $name -}}
{{- $_ := set $peer $name (ternary (printf "%s:%s" $one.address (include "shared.text" $one.port)) "" (not (empty $one.address))) -}}
{{- end -}}
{{- $args := list "/daprd" "--mode=kubernetes"
  (printf "--log-level=%s" (include "shared.text" $shared.log.level))
  (printf "--log-as-json=%s" (include "shared.text" $shared.log.json))
  (printf "--dapr-http-port=%s" (include "shared.text" $daprd.httpPort))
  (printf "--dapr-grpc-port=%s" (include "shared.text" $daprd.grpcPort))
  (printf "--dapr-internal-grpc-port=%s" (include "shared.text" $daprd.internalGrpcPort))
  (printf "--dapr-listen-addresses=%s" (include "shared.text" $daprd.listenAddresses))
  (printf "--dapr-public-port=%s" (include "shared.text" $daprd.publicPort))
  (printf "--dapr-graceful-shutdown-seconds=%s" (include "shared.text" $daprd.gracefulShutdownSeconds)) -}}
{{- if $id -}}
{{- $args = concat $args (list
  (printf "--app-id=%s" $id)
  (printf "--app-port=%s" (include "shared.text" $shared.remotePort))
  (printf "--app-protocol=%s" $daprd.app.protocol)) -}}
{{- end -}}
{{- $args = concat $args (list
  (printf "--control-plane-address=%s" $peer.operator)
  (printf "--placement-host-address=%s" $peer.placementServer)
  (printf "--sentry-address=%s" $peer.sentry)
  (printf "--enable-metrics=%s" (include "shared.text" $daprd.metrics.enabled))
  (printf "--metrics-port=%s" (include "shared.text" $daprd.metrics.port))
  (printf "--enable-mtls=%s" (include "shared.text" $daprd.mtls.enabled))
  (printf "--enable-api-logging=%s" (include "shared.text" $daprd.apiLogging.enabled))) -}}
{{- if $id -}}
{{- $args = append $args (printf "--app-channel-address=%s" (include "shared.text" ($shared.remoteURL | default $shared.channelAddress))) -}}
{{- end -}}
{{- $args = append $args (printf "--config=%s" (include "shared.text" $daprd.config)) -}}
{{- if and $id (include "shared.on" $daprd.appHealth.enabled) -}}
{{- $args = concat $args (list
  "--enable-app-health-check=true"
  (printf "--app-health-check-path=%s" ($daprd.appHealth.checkPath | default $daprd.appHealth.path | default "/healthz"))
  (printf "--app-health-probe-interval=%s" (include "shared.text" $daprd.appHealth.probeInterval))
  (printf "--app-health-probe-timeout=%s" (include "shared.text" $daprd.appHealth.probeTimeout))
  (printf "--app-health-threshold=%s" (include "shared.text" $daprd.appHealth.threshold))) -}}
{{- end -}}
{{- $args = append $args "--data-dir=/data" -}}
{{- if $shared.clusterDomain }}{{ $args = append $args (printf "--cluster-domain=%s" $shared.clusterDomain) }}{{ end -}}
{{- if $shared.scheduler.address }}{{ $args = append $args (printf "--scheduler-host-address=%s" (include "shared.text" $shared.scheduler.address)) }}{{ end -}}
{{- if $multi -}}
{{- $args = concat $args (list "--multi-app=true" "--apps=/etc/dapr-shared/apps") -}}
{{- if $shared.watchNamespaces }}{{ $args = append $args (printf "--watch-namespaces=%s" (include "shared.namespaces" . | fromJsonArray | join ",")) }}{{ end -}}
{{- if $shared.discover }}{{ $args = append $args (printf "--discover=%s" (include "shared.text" $shared.discover)) }}{{ end -}}
{{- if $shared.identity.serviceAccountAudience -}}
{{- $args = concat $args (list
  (printf "--service-account-audience=%s" $shared.identity.serviceAccountAudience)
  (printf "--service-account-verification=%s" $shared.identity.serviceAccountVerification)) -}}
{{- end -}}
{{- if include "shared.on" $shared.identity.byAddress }}{{ $args = append $args "--identify-by-address=true" }}{{ end -}}
{{- end -}}
{{- range concat $args ($daprd.extraArgs | default list) }}
- {{ include "shared.text" . | quote }}
{{- end }}
{{- end -}}

{{/* 0 to 5 are those of the existing chart without DAPR_TRUST_ANCHORS, which an init container put into a ConfigMap. */}}
{{- define "shared.env" -}}
{{- $shared := .Values.shared -}}
{{- $id := include "shared.appId" . -}}
- name: DAPR_CONTROLPLANE_NAMESPACE
  value: {{ $shared.controlPlane.namespace | quote }}
- name: DAPR_SCHEDULER_HOST_ADDRESS
  value: {{ include "shared.text" $shared.scheduler.address | quote }}
{{- if $id }}
- name: DAPR_API_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "shared.secretName" . }}
      key: dapr-api-token
{{- end }}
- name: DAPR_CONTROLPLANE_TRUST_DOMAIN
  value: {{ $shared.controlPlane.trustDomain | quote }}
- name: NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if include "shared.multiApp" . }}
# The Lease of this pod is removed with it.
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: RELEASE_NAME
  value: {{ .Release.Name | quote }}
{{- end }}
{{- if $id }}
- name: APP_API_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "shared.secretName" . }}
      key: app-api-token
      optional: true
{{- end }}
{{- with $shared.daprd.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
