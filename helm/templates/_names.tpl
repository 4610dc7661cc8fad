{{/* Names, labels and annotations. */}}

{{- define "trainer.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What the objects are called: as the release, so that two aliases of this chart in another one differ by theirs. */}}
{{- define "trainer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if .Chart.IsRoot -}}
{{ .Release.Name }}
{{- else -}}
{{- $name := printf "%s-%s" .Release.Name (include "trainer.name" .) -}}
{{- if gt (len $name) 53 }}{{ $name = printf "%s-%s" ($name | trunc 44 | trimSuffix "-") (sha256sum $name | trunc 8) }}{{ end -}}
{{ $name }}
{{- end -}}
{{- end }}

{{/* The Job's pods are called <job>-<index>, in at most 63 characters. */}}
{{- define "trainer.job" -}}
{{- $digits := len (toString (sub (int .Values.workers) 1)) -}}
{{/* The pods run as this account and through this queue, too, though neither stands in the Job's specification. */}}
{{- $what := list (include "trainer.jobSpec" . | fromYaml) .Values.serviceAccount.annotations .Values.job.queue (include "trainer.text" .Values.runId) | toJson -}}
{{- printf "%s-%s" (include "trainer.fullname" . | trunc (int (sub 53 $digits)) | trimSuffix "-") (sha256sum $what | trunc 8) -}}
{{- end }}

{{/* In at most 63 characters. */}}
{{- define "trainer.tensorboard" -}}
{{ include "trainer.fullname" . | trunc 51 | trimSuffix "-" }}-tensorboard
{{- end }}

{{- define "trainer.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "trainer.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}
{{- define "trainer.tensorboardServiceAccount" -}}
{{- $account := .Values.tensorboard.serviceAccount -}}
{{ $account.name | default (ternary (include "trainer.tensorboard" .) "default" $account.create) }}
{{- end }}

{{- define "trainer.selector" -}}
app.kubernetes.io/name: {{ include "trainer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "trainer.labels" -}}
{{ include "trainer.selector" . }}
app.kubernetes.io/version: {{ include "trainer.labelValue" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "trainer.labelValue" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A version may have a "+", and a label may not. */}}
{{- define "trainer.labelValue" -}}
{{ . | replace "+" "_" | trunc 63 | trimAll "-_." }}
{{- end }}

{{/* The labels of a pod: (list . ROLE MORE). */}}
{{- define "trainer.podLabels" -}}
{{- $ := index . 0 -}}
{{ include "trainer.selector" $ }}
trainer/role: {{ index . 1 }}
{{- with merge (deepCopy (index . 2)) $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* `annotations:` of an object, or nothing: (list . MORE). */}}
{{- define "trainer.annotations" -}}
{{- with merge (deepCopy (index . 1)) (index . 0).Values.commonAnnotations -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* By its tag, its digest, or both; the digest is what counts. */}}
{{- define "trainer.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default (ternary "" .Chart.AppVersion (ne $image.digest "")) -}}
{{- with (.Values.global).imageRegistry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{ $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The claim's name when the output is pvc:NAME. */}}
{{- define "trainer.claim" -}}
{{- if hasPrefix "pvc:" .Values.output }}{{ trimPrefix "pvc:" .Values.output }}{{ end -}}
{{- end }}

{{- define "trainer.bucket" -}}
{{- if contains "://" .Values.output }}{{ .Values.output }}{{ end -}}
{{- end }}
