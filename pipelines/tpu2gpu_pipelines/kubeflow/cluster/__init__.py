"""A cluster, as `tpu2gpu doctor --kubeflow` looks at it, and as a step that runs on several hosts uses it.

- kubernetes_api: the cluster, by Kubernetes' own client
- diagnosing, check: what steps need, and what to set where something is missing
- rights: what a training on several hosts needs: accounts, rights, shared claims
- job_sets: JobSets made, watched and taken away
- worker_logs, last_words: what their workers say
- volume_probe: a pod that tries whether a step could write a volume
- volume_check: what runs in that pod
"""
