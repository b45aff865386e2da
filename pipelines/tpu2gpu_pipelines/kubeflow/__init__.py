"""The same pipeline on Kubeflow Pipelines: compiled, submitted, scheduled, and run step by step in containers."""
