"""The pipeline `detector`: RetinaNet, trained on scenes, goes the main pipeline's way: JPEG bytes in, boxes out."""

from __future__ import annotations

from tfx.orchestration.pipeline import Pipeline

from tpu2gpu_pipelines.examples import SceneExamples
from tpu2gpu_pipelines.settings import Settings
from tpu2gpu_pipelines.step_names import examples_name
from tpu2gpu_pipelines.tpu_to_gpu import join_steps


def create_pipeline(settings: Settings) -> Pipeline:
    """Make the pipeline; the same settings make the same one.

    Args:
        settings: What the steps are told; those of `named_pipelines` when the pipeline is run by its name.

    Raises:
        SourceError: There is no such training function.
    """
    examples = SceneExamples(settings.scenes, settings.data_uri, settings.data_state)
    return join_steps(settings, examples.with_id(examples_name(settings, examples.id)))
