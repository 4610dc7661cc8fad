{{/* What the Job runs; its name is a checksum of this, because a Job's template cannot be changed. */}}

{{- define "trainer.jobSpec" -}}
{{- $worker := .Values.worker -}}
completionMode: Indexed
completions: {{ int .Values.workers }}
parallelism: {{ int .Values.workers }}
backoffLimit: {{ int .Values.job.backoffLimit }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int64 . }}
{{- end }}
{{- if not (kindIs "invalid" .Values.job.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ int64 .Values.job.ttlSecondsAfterFinished }}
{{- end }}
{{- if .Values.job.gang }}
scheduling:
  schedulingPolicy:
    gang: {minCount: {{ int (.Values.worker.minWorkers | default .Values.workers) }}}
{{- end }}
# A replacement never overlaps the pod it replaces: there is one worker of each rank.
podReplacementPolicy: Failed
# The chief ends last and has the result.
successPolicy:
  rules:
    - succeededIndexes: "0"
podFailurePolicy:
  rules:
    # Flags, data, accelerators: another pod would only fail in the same way.
    - action: FailJob
      onExitCodes:
        containerName: worker
        operator: In
        values: [64, 65, 69]
    # SIGTERM, and whatever Kubernetes itself did to the pod. A plain delete sets no condition.
    - action: Ignore
      onExitCodes:
        containerName: worker
        operator: In
        values: [143]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  metadata:
    labels:
      {{- include "trainer.podLabels" (list . "worker" $worker.podLabels) | nindent 6 }}
    {{- with include "trainer.annotations" (list . $worker.podAnnotations) }}
    {{- . | nindent 4 }}
    {{- end }}
  spec:
    restartPolicy: Never
    subdomain: {{ include "trainer.fullname" . | quote }}
    serviceAccountName: {{ include "trainer.serviceAccount" . | quote }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ int64 $worker.gracePeriodSeconds }}
    {{- with .Values.image.pullSecrets }}
    imagePullSecrets: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $worker.priorityClassName }}
    priorityClassName: {{ . | quote }}
    {{- end }}
    {{- with $worker.runtimeClassName }}
    runtimeClassName: {{ . | quote }}
    {{- end }}
    {{- with $worker.schedulerName }}
    schedulerName: {{ . | quote }}
    {{- end }}
    {{- with $worker.hostAliases }}
    hostAliases: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $worker.dnsConfig }}
    dnsConfig: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "trainer.nodeSelector" (list . $worker.nodeSelector) | fromYaml }}
    nodeSelector: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $worker.affinity }}
    affinity: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $worker.topologySpreadConstraints }}
    topologySpreadConstraints: {{- toYaml . | nindent 6 }}
    {{- end }}
    tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int64 $worker.evictAfterSeconds }}}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int64 $worker.evictAfterSeconds }}}
      {{- if $worker.gpus }}
      - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
      {{- end }}
      {{- with $worker.tolerations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    securityContext:
      {{- include "trainer.security" (list $worker.podSecurityContext .Values.podSecurityContext) | nindent 6 }}
    {{- with $worker.initContainers }}
    initContainers:
      {{- range . }}
      {{- $workers := include "trainer.security" (list $worker.securityContext $.Values.securityContext) | fromYaml }}
      {{- $security := include "trainer.security" (list (.securityContext | default dict) $workers) | fromYaml }}
      {{- $resources := include "trainer.resources" (.resources | default $worker.resources) | fromYaml }}
      {{- $own := dict "image" (.image | default (include "trainer.image" $)) "securityContext" $security "resources" $resources }}
      - {{- toYaml (merge $own (deepCopy .)) | nindent 8 }}
      {{- end }}
    {{- end }}
    containers:
      - name: worker
        image: {{ include "trainer.image" . | quote }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        # The run is named by the Job's name and the first 8 characters of its UID: every replacement pod of a Job
        # resumes its own run, and a new Job never picks up an old one's.
        command:
          - /bin/sh
          - -c
          {{- if .Values.code }}
          - run="/runs/$JOB_NAME-$(printf %.8s "$JOB_UID")"; exec python -m trainer.agent.shipped_code "$run" "$@" --run_dir="$run"
          - agent
          - {{ include "trainer.codeArchive" . | quote }}
          - /code
          {{- else }}
          - exec python -m trainer.agent "$@" --run_dir="/runs/$JOB_NAME-$(printf %.8s "$JOB_UID")"
          - agent
          {{- end }}
        args:
          {{- include "trainer.arguments" . | trim | nindent 10 }}
        env:
          - {name: JOB_NAME, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}
          - {name: JOB_UID, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}}
          - {name: SERVICE_NAME, value: {{ include "trainer.fullname" . | quote }}}
          - {name: WORKERS, value: {{ int .Values.workers | quote }}}
          {{- with include "trainer.credentialsEnv" .Values.credentials | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with include "trainer.gpuEnv" . | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with $worker.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with include "trainer.envFrom" (list .Values.credentials $worker.envFrom) | trim }}
        envFrom:
          {{- . | nindent 10 }}
        {{- end }}
        ports:
          - {name: training, containerPort: 2222}
          - {name: agent, containerPort: 8080}
          {{- if eq (include "trainer.tensorboardBeside" .) "true" }}
          - {name: tensorboard, containerPort: 6006}
          {{- end }}
        resources:
          {{- include "trainer.workerResources" . | nindent 10 }}
        startupProbe:
          httpGet: {path: /healthz, port: agent}
          periodSeconds: 1
          {{- /* Code may be fetched for 5 minutes, and what it asks for installed for 10, before there is an agent. */}}
          failureThreshold: {{ ternary 960 60 (ne .Values.code "") }}
        livenessProbe:
          httpGet: {path: /healthz, port: agent}
          periodSeconds: 10
          timeoutSeconds: 5
          failureThreshold: 6
        readinessProbe:
          httpGet: {path: /readyz, port: agent}
          periodSeconds: 5
          timeoutSeconds: 5
        securityContext:
          {{- include "trainer.security" (list $worker.securityContext .Values.securityContext) | nindent 10 }}
        volumeMounts:
          - {name: runs, mountPath: /runs}
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          {{- if .Values.code }}
          - {name: code, mountPath: /code}
          {{- if not (hasPrefix "sha256:" .Values.code) }}
          - {name: sent, mountPath: /var/run/code, readOnly: true}
          {{- end }}
          {{- end }}
          {{- if include "trainer.dataCacheMebibytes" . }}
          - {name: data-cache, mountPath: {{ clean .Values.train.data_cache | quote }}}
          {{- end }}
          {{- with include "trainer.credentialsMounts" .Values.credentials | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with $worker.extraVolumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
    volumes:
      - name: runs
        {{- if include "trainer.claim" . }}
        persistentVolumeClaim: {claimName: {{ include "trainer.claim" . | quote }}}
        {{- else }}
        emptyDir: {}
        {{- end }}
      - name: tmp
        emptyDir: {}
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: {{ include "trainer.text" $worker.shm | quote }}}
      {{- with .Values.code }}
      - name: code
        emptyDir: {}
      {{- if not (hasPrefix "sha256:" .) }}
      - name: sent
        configMap: {name: {{ . | quote }}}
      {{- end }}
      {{- end }}
      {{- with include "trainer.dataCacheMebibytes" . }}
      - name: data-cache
        emptyDir: {sizeLimit: {{ . }}Mi}
      {{- end }}
      {{- with include "trainer.credentialsVolumes" .Values.credentials | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $worker.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}

{{/* Without an output, the chief's agent runs TensorBoard beside training: with all that the chief may, so only if asked
where that is more than nothing. */}}
{{- define "trainer.tensorboardBeside" -}}
{{- $asked := .Values.tensorboard.besideChief -}}
{{- if kindIs "invalid" $asked -}}
{{- $asked = not (or .Values.credentials.gcsSecret .Values.credentials.s3Secret .Values.worker.envFrom .Values.serviceAccount.annotations) -}}
{{- range .Values.worker.extraEnv }}{{ if hasKey (.valueFrom | default dict) "secretKeyRef" }}{{ $asked = false }}{{ end }}{{ end -}}
{{- end -}}
{{ and .Values.tensorboard.enabled (not .Values.output) $asked }}
{{- end }}

{{- define "trainer.tensorboardRuns" -}}
{{ or (eq (include "trainer.tensorboardBeside" .) "true") (and .Values.tensorboard.enabled (ne .Values.output "")) }}
{{- end }}

{{/* The agent's flags, "--", the training program's; --run_dir follows them. */}}
{{- define "trainer.arguments" -}}
{{- $agent := deepCopy .Values.agent -}}
{{/* The agent gives up on a save a little before Kubernetes gives up on the pod. */}}
{{- $_ := set $agent "grace" (max 1 (sub (int64 .Values.worker.gracePeriodSeconds) 5)) -}}
{{- with .Values.worker.minWorkers }}{{ $_ := set $agent "min_workers" . }}{{ end -}}
{{- with include "trainer.bucket" . }}{{ $_ := set $agent "output" . }}{{ end -}}
{{- if eq (include "trainer.tensorboardBeside" .) "true" }}{{ $_ := set $agent "tensorboard" true }}{{ end -}}
{{- range $flag, $value := $agent }}
- {{ printf "--%s=%s" $flag (include "trainer.text" $value) | quote }}
{{- end }}
- "--"
{{- $train := deepCopy .Values.train -}}
{{- with .Values.worker.gpus }}{{ $_ := set $train "expect_gpus" . }}{{ end -}}
{{- if and .Values.mode (ne .Values.mode "train") }}{{ $_ := set $train "mode" .Values.mode }}{{ end -}}
{{- range $flag, $value := $train }}
- {{ printf "--%s=%s" $flag (include "trainer.text" $value) | quote }}
{{- end }}
{{- range $flag, $value := .Values.experiment }}
- {{ printf "--%s=%s" $flag (include "trainer.text" $value) | quote }}
{{- end }}
{{- end }}

{{/* What CUDA's driver has compiled for this kind of GPU outlives the container, and with a claim the pod. */}}
{{- define "trainer.gpuEnv" -}}
{{- if .Values.worker.gpus }}
{{- $given := list }}
{{- range .Values.worker.extraEnv }}{{ $given = append $given .name }}{{ end }}
{{- range $name, $value := dict "CUDA_CACHE_PATH" "/runs/.cuda-cache" "CUDA_CACHE_MAXSIZE" "2147483648" }}
{{- if not (has $name $given) }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The size of the volume for what workers keep of data in a bucket, a tenth more than they are told to; nothing where
none is kept, or on a volume that is there. */}}
{{- define "trainer.dataCacheMebibytes" -}}
{{- $path := clean (.Values.train.data_cache | default "") -}}
{{- $there := not (and (hasPrefix "/" $path) (not (has $path (list "/" "/runs" "/tmp" "/dev/shm")))) -}}
{{- range .Values.worker.extraVolumeMounts -}}
{{- if hasPrefix (printf "%s/" (clean .mountPath)) (printf "%s/" $path) }}{{ $there = true }}{{ end -}}
{{- end -}}
{{- if not $there }}{{ printf "%.0f" (ceil (mulf 1126.4 (float64 (.Values.train.data_cache_gib | default 10)))) }}{{ end -}}
{{- end }}

{{/* A quantity of bytes and so many MiB, together. */}}
{{- define "trainer.plusMebibytes" -}}
{{- $bytes := include "trainer.text" (index . 0) -}}
{{- $number := regexFind "^[0-9.]+([eE][-+]?[0-9]+)?" $bytes -}}
{{- $units := dict "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := trimPrefix $number $bytes | get $units | default 1 -}}
{{ printf "%.0fMi" (ceil (addf (float64 (index . 1)) (divf (mulf (float64 $number) (float64 $unit)) 1048576))) }}
{{- end }}

{{- define "trainer.workerResources" -}}
{{- $resources := deepCopy .Values.worker.resources -}}
{{- with .Values.worker.gpus }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" .) ($resources.limits | default dict)) }}
{{- end -}}
{{- with include "trainer.dataCacheMebibytes" . }}
{{- $cached := . }}
{{- range $kind := list "requests" "limits" }}
{{- $given := get $resources $kind | default dict }}
{{- with get $given "ephemeral-storage" }}
{{- $_ := set $given "ephemeral-storage" (include "trainer.plusMebibytes" (list . $cached)) }}
{{- end }}
{{- end }}
{{- end -}}
{{ include "trainer.resources" $resources }}
{{- end }}
