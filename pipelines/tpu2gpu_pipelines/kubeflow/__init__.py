"""The same pipeline on Kubeflow Pipelines.

- cli: the commands `submit` and `schedule`
- compiler/: a TFX pipeline becomes a file that Kubeflow takes
- api/: what is asked of a server: upload, run, schedule
- cluster/: what a cluster must have: `tpu2gpu doctor --kubeflow`
- container/: what runs in a step's container
- components/: the steps as components of KFP's SDK, for pipelines written with it alone
"""
