"""The same pipeline on Kubeflow Pipelines.

cli         the commands `submit` and `schedule`
options     section `kubeflow` of the settings
quantities  amounts as Kubernetes writes them
compiler/   a TFX pipeline becomes a file that Kubeflow takes
api/        what is asked of a server: upload, run, schedule
container/  what runs in a step's container
"""
