{{/* What the pods of workers, of TensorBoard and of `helm test` have in common. */}}

{{/* Helm reads every number as a float, which prints as 1e+06. */}}
{{- define "trainer.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if not (kindIs "invalid" .) }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* A security context out of two maps, the first over the second: what is null or "" is taken away. */}}
{{- define "trainer.security" -}}
{{- $kept := dict -}}
{{- range $key, $value := mergeOverwrite (deepCopy (index . 1)) (index . 0) -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}{{ $_ := set $kept $key $value }}{{ end -}}
{{- end -}}
{{ toYaml $kept }}
{{- end }}

{{/* Labels of the nodes, or {}: (list . GIVEN). The image does not run on other processors than its own. */}}
{{- define "trainer.nodeSelector" -}}
{{- $selector := deepCopy (index . 1) -}}
{{- with (index . 0).Values.image.arch }}{{ $selector = merge $selector (dict "kubernetes.io/arch" .) }}{{ end -}}
{{ toYaml $selector }}
{{- end }}

{{/* Requests and limits with a limit of the memory: one container that grows may not end its neighbours. */}}
{{- define "trainer.resources" -}}
{{- $resources := deepCopy . -}}
{{- $limits := $resources.limits | default dict -}}
{{- if and (hasKey $limits "memory") (eq (toString $limits.memory) "") -}}
{{- $limits = omit $limits "memory" -}}
{{- else if and (not (hasKey $limits "memory")) ($resources.requests).memory -}}
{{- $memory := include "trainer.text" $resources.requests.memory -}}
{{- $number := regexFind "^[0-9.]+([eE][-+]?[0-9]+)?" $memory -}}
{{- $unit := trimPrefix $number $memory -}}
{{- $twice := mulf 2 (float64 $number) -}}
{{- $limits = set $limits "memory" (printf (ternary "%.0f%s" "%v%s" (or (empty $unit) (eq $twice (floor $twice)))) $twice $unit) -}}
{{- end -}}
{{- $resources = omit $resources "limits" -}}
{{- if $limits }}{{ $_ := set $resources "limits" $limits }}{{ end -}}
{{ toYaml $resources }}
{{- end }}

{{/* Credentials of a pod, of its `gcsSecret` and `s3Secret`. */}}
{{- define "trainer.credentialsEnv" -}}
{{- if .gcsSecret }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /var/run/gcs/key.json}
{{- end }}
{{- end }}
{{/* (list CREDENTIALS MORE) */}}
{{- define "trainer.envFrom" -}}
{{- with (index . 0).s3Secret }}
- secretRef: {name: {{ . | quote }}}
{{- end }}
{{- with index . 1 }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- define "trainer.credentialsMounts" -}}
{{- if .gcsSecret }}
- {name: gcs, mountPath: /var/run/gcs, readOnly: true}
{{- end }}
{{- end }}
{{- define "trainer.credentialsVolumes" -}}
{{- with .gcsSecret }}
- name: gcs
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Where TensorBoard and the pod of `helm test` may run: neither needs the workers' nodes. */}}
{{- define "trainer.tensorboardNodes" -}}
{{- with include "trainer.nodeSelector" (list . .Values.tensorboard.nodeSelector) | fromYaml }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tensorboard.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The code that was sent: a file, or an object in the output, which is called by its checksum. */}}
{{- define "trainer.codeArchive" -}}
{{- if hasPrefix "sha256:" .Values.code -}}
{{- if not (include "trainer.bucket" .) -}}
{{- fail (printf "code is %s, which pods fetch from the output, and output is %q: set it to the bucket that has the code, gs://... or s3://..." .Values.code .Values.output) -}}
{{- end -}}
{{ .Values.output | trimSuffix "/" }}/.code/{{ trimPrefix "sha256:" .Values.code }}.tar.gz
{{- else -}}
/var/run/code/code.tar.gz
{{- end -}}
{{- end }}
