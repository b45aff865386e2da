"""The pipeline that turns a model trained on TPU into a promoted GPU serving model, and what runs it.

- tpu_to_gpu: `create_pipeline`
- serving_tail: `gpu_serving`, its steps from import to promotion, to append to any pipeline
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

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpu2gpu_pipelines.serving_tail import gpu_serving as gpu_serving
    from tpu2gpu_pipelines.settings import Settings as Settings

__all__ = ["Settings", "gpu_serving"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): the one needs TFX, and neither is always needed."""
    if name == "gpu_serving":
        from tpu2gpu_pipelines.serving_tail import gpu_serving

        return gpu_serving
    if name == "Settings":
        from tpu2gpu_pipelines.settings import Settings

        return Settings
    raise AttributeError(f"module 'tpu2gpu_pipelines' has no attribute '{name}'")
