"""How a TFX pipeline becomes a file that Kubeflow takes: nothing here speaks to a server.

- compiling: `compile_pipeline`, from settings to a CompiledPipeline
- specification: from what TFX compiles for Vertex to the specification of open-source Kubeflow
- parameters: run parameters
- accelerators, tpu_slices: what TPUs and GPUs are called, and the nodes that have them
- pod_spec: a step's resources, labels, tolerations, secrets and volumes
- job_set: the JobSet by which a step trains on several hosts
- settings_check, slice_check, places, names: mistakes in settings, found before TFX is imported
- validation: what Kubeflow would refuse of a pipeline
- parsing: KFP's own parsers over the result
"""
