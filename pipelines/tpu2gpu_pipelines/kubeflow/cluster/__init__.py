"""What a cluster must have so that steps can run on it: looked at by `tpu2gpu doctor --kubeflow`.

- diagnosing: the checks, and what to set where one fails
- kubernetes_api: the cluster, by Kubernetes' own client
- volume_probe: a pod that tries whether a step could write a volume
- volume_check: what runs in that pod
"""
