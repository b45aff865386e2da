"""The pipeline that turns a model trained on TPU into a promoted GPU serving model, and what runs it.

- tpu_to_gpu: `create_pipeline`
- examples, datasets: the component that brings the examples, and the data of the demo
- trainers: the room of training functions
- settings, structuring: what a run is told, made of a YAML file
- kubeflow_options, quantities: its section on Kubeflow
- step_digests: digests of what a training and a pipeline of one's own are made of
- step_names, module_source: what is known of steps and of a user's code without running either
- local: a run on this machine
- metadata_store, run_result, log_capture: what it left, what it came to, and what the libraries said
- cli, pipeline_flags: `tpu2gpu run` and `compile`, and what all commands about a pipeline are given
- kubeflow: the room of Kubeflow Pipelines
"""
