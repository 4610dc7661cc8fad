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
      {{- include "trainer.selector" . | nindent 6 }}
      trainer/role: worker
    {{- with $worker.podAnnotations }}
    annotations: {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    restartPolicy: Never
    subdomain: {{ .Release.Name | quote }}
    serviceAccountName: {{ .Release.Name | quote }}
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
    {{- with $worker.nodeSelector }}
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
      {{- include "trainer.podSecurity" . | nindent 6 }}
    containers:
      - name: worker
        image: {{ include "trainer.image" . | quote }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        # The run is named by the Job's name and the first 8 characters of its UID: every replacement pod of a Job
        # resumes its own run, and a new Job never picks up an old one's.
        command:
          - /bin/sh
          - -c
          - exec python -m trainer.agent "$@" --run_dir="/runs/$JOB_NAME-$(printf %.8s "$JOB_UID")"
          - agent
        args:
          {{- include "trainer.arguments" . | trim | nindent 10 }}
        env:
          - {name: JOB_NAME, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}
          - {name: JOB_UID, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}}
          - {name: SERVICE_NAME, value: {{ .Release.Name | quote }}}
          - {name: WORKERS, value: {{ int .Values.workers | quote }}}
          {{- with include "trainer.credentialsEnv" . | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with include "trainer.gpuEnv" . | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with $worker.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with include "trainer.envFrom" . | trim }}
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
          {{- include "trainer.resources" . | nindent 10 }}
        startupProbe:
          httpGet: {path: /healthz, port: agent}
          periodSeconds: 1
          failureThreshold: 60
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
          {{- include "trainer.containerSecurity" . | nindent 10 }}
        volumeMounts:
          - {name: runs, mountPath: /runs}
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          {{- with include "trainer.credentialsMounts" . | trim }}
          {{- . | nindent 10 }}
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
      {{- with include "trainer.credentialsVolumes" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
{{- end }}

{{/* Without an output, the chief's agent runs TensorBoard beside training. */}}
{{- define "trainer.tensorboardBeside" -}}
{{ and .Values.tensorboard.enabled (not .Values.output) }}
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

{{/* Helm reads every number as a float, which prints as 1e+06. */}}
{{- define "trainer.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if not (kindIs "invalid" .) }}{{ toJson . }}{{ end -}}
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

{{- define "trainer.resources" -}}
{{- $resources := deepCopy .Values.worker.resources -}}
{{- with .Values.worker.gpus }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" .) ($resources.limits | default dict)) }}
{{- end -}}
{{ toYaml $resources }}
{{- end }}
