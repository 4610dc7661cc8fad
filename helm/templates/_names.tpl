{{/* Names and labels. */}}

{{/* The Job's pods are called <job>-<index>, in at most 63 characters. */}}
{{- define "trainer.job" -}}
{{- $digits := len (toString (sub (int .Values.workers) 1)) -}}
{{/* The pods run as this account and through this queue, too, though neither stands in the Job's specification. */}}
{{- $what := list (include "trainer.jobSpec" . | fromYaml) .Values.serviceAccount.annotations .Values.job.queue (include "trainer.text" .Values.runId) | toJson -}}
{{- printf "%s-%s" (.Release.Name | trunc (int (sub 53 $digits)) | trimSuffix "-") (sha256sum $what | trunc 8) -}}
{{- end }}

{{/* In at most 63 characters. */}}
{{- define "trainer.tensorboard" -}}
{{ .Release.Name | trunc 51 | trimSuffix "-" }}-tensorboard
{{- end }}

{{- define "trainer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "trainer.labels" -}}
{{ include "trainer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "trainer.image" -}}
{{ .Values.image.repository }}:{{ include "trainer.text" .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The claim's name when the output is pvc:NAME. */}}
{{- define "trainer.claim" -}}
{{- if hasPrefix "pvc:" .Values.output }}{{ trimPrefix "pvc:" .Values.output }}{{ end -}}
{{- end }}

{{- define "trainer.bucket" -}}
{{- if contains "://" .Values.output }}{{ .Values.output }}{{ end -}}
{{- end }}

{{/* What Pod Security "restricted" asks for, and a root file system that nobody writes to. */}}
{{- define "trainer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "trainer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Credentials for the output, of workers and TensorBoard alike. */}}
{{- define "trainer.credentialsEnv" -}}
{{- if .Values.credentials.gcsSecret }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /var/run/gcs/key.json}
{{- end }}
{{- end }}
{{- define "trainer.envFrom" -}}
{{- with .Values.credentials.s3Secret }}
- secretRef: {name: {{ . | quote }}}
{{- end }}
{{- with .Values.worker.envFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- define "trainer.credentialsMounts" -}}
{{- if .Values.credentials.gcsSecret }}
- {name: gcs, mountPath: /var/run/gcs, readOnly: true}
{{- end }}
{{- end }}
{{- define "trainer.credentialsVolumes" -}}
{{- with .Values.credentials.gcsSecret }}
- name: gcs
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Where TensorBoard and the pod of `helm test` may run: neither needs the workers' nodes. */}}
{{- define "trainer.tensorboardNodes" -}}
{{- with .Values.tensorboard.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tensorboard.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
