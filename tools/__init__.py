"""Programs that write what is generated or recorded and then committed; their first lines say what, and when.

From the code or the chart, and held to it by tests: the documentation's tables (`make docs`), `manifests`
(`make manifests`). From Kubernetes' sources: `kubernetes_schemas` (`make schemas`). From a run on a cluster, by hand:
`launcher_pictures`, `recorded_runs`.
"""
