"""The steps as components of KFP's SDK, for pipelines that are written with it alone: TFX is not needed.

    from kfp import dsl
    from tpu2gpu_pipelines.kubeflow import components

    @dsl.pipeline
    def to_gpu(uri: str):
        trained = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact)
        model = components.import_checkpoint(checkpoint=trained.output)
        half = components.cast_model(source_model=model.outputs["model"], to="float16")

- step_component: `StepContainer`, one component made of a step's interface
- component_set: all of them, for an image
- tail: `gpu_serving`, the steps from import to promotion as settings describe them

Those of this module run in the image `tpu2gpu:cpu`, as `make image` calls it; `of_image` gives them for another. Each
is made when it is first used.
"""

from __future__ import annotations

from typing import Any

from tpu2gpu_pipelines.kubeflow.components.component_set import NAMES, ComponentSet, of_image
from tpu2gpu_pipelines.kubeflow.components.step_component import StepContainer
from tpu2gpu_pipelines.kubeflow.components.tail import ServingTasks, gpu_serving

__all__ = [  # noqa: PLE0604 - strings all
    "ComponentSet",
    "ServingTasks",
    "StepContainer",
    "gpu_serving",
    "of_image",
    *NAMES,
]

write_digits: StepContainer
write_scenes: StepContainer
import_model: StepContainer
import_checkpoint: StepContainer
cast_model: StepContainer
cast_model_on_examples: StepContainer
freeze_model: StepContainer
unfreeze_model: StepContainer
convert_model: StepContainer
convert_model_on_examples: StepContainer
evaluate_model: StepContainer
promote_model: StepContainer

_OURS = of_image("tpu2gpu:cpu")


def __getattr__(name: str) -> Any:
    """Make a component when it is first used (PEP 562)."""
    if name not in NAMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(_OURS, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *NAMES})
