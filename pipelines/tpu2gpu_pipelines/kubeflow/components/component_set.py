"""All steps as components of KFP's SDK that run in one image."""

from __future__ import annotations

from functools import cached_property

from tpu2gpu.checkpoint_importer.interface import CHECKPOINT_IMPORTER
from tpu2gpu.freezer.interface import FREEZER
from tpu2gpu.latency_evaluator.interface import LATENCY_EVALUATOR
from tpu2gpu.model_pusher.interface import MODEL_PUSHER
from tpu2gpu.precision_caster.interface import PRECISION_CASTER
from tpu2gpu.trt_converter.interface import TRT_CONVERTER
from tpu2gpu.unfreezer.interface import UNFREEZER
from tpu2gpu_pipelines.datasets import DIGIT_EXAMPLES
from tpu2gpu_pipelines.kubeflow.components.step_component import StepContainer
from tpu2gpu_pipelines.scenes import SCENE_EXAMPLES


class ComponentSet:
    """The steps in one image; each has the name of the function in `tpu2gpu` that it runs.

    Args:
        image: One that `make image` built, or one made of it.
    """

    def __init__(self, image: str) -> None:
        self.image = image

    @cached_property
    def write_digits(self) -> StepContainer:
        """The demo's data: to `examples`."""
        return StepContainer(DIGIT_EXAMPLES, "write_digits", self.image)

    @cached_property
    def write_scenes(self) -> StepContainer:
        """The detector's data: to `examples`."""
        return StepContainer(SCENE_EXAMPLES, "write_scenes", self.image)

    @cached_property
    def import_model(self) -> StepContainer:
        """From `source_model`, what a training task put out (a SavedModel, `.keras` and so on), to `model`."""
        return StepContainer(CHECKPOINT_IMPORTER, "import_model", self.image, connect=["source_model"])

    @cached_property
    def import_checkpoint(self) -> StepContainer:
        """From `checkpoint`, which `dsl.importer` brings into the run from elsewhere, to `model`."""
        return StepContainer(CHECKPOINT_IMPORTER, "import_checkpoint", self.image, connect=["checkpoint"])

    @cached_property
    def cast_model(self) -> StepContainer:
        """From `source_model` to `model` and `metrics`."""
        return StepContainer(PRECISION_CASTER, "cast_model", self.image)

    @cached_property
    def cast_model_on_examples(self) -> StepContainer:
        """The same with `examples`, to measure on what the cast does to the outputs."""
        return StepContainer(PRECISION_CASTER, "cast_model_on_examples", self.image, connect=["examples"])

    @cached_property
    def freeze_model(self) -> StepContainer:
        """From `source_model` to `model`."""
        return StepContainer(FREEZER, "freeze_model", self.image)

    @cached_property
    def unfreeze_model(self) -> StepContainer:
        """From `source_model` to `model`."""
        return StepContainer(UNFREEZER, "unfreeze_model", self.image)

    @cached_property
    def convert_model(self) -> StepContainer:
        """From `source_model` to `model`, a serving folder, and `metrics`."""
        return StepContainer(TRT_CONVERTER, "convert_model", self.image)

    @cached_property
    def convert_model_on_examples(self) -> StepContainer:
        """The same with `examples`, to compare on and, with `int8=True`, to calibrate on."""
        return StepContainer(TRT_CONVERTER, "convert_model_on_examples", self.image, connect=["examples"])

    @cached_property
    def evaluate_model(self) -> StepContainer:
        """From `model`, `reference` and `examples` to both blessings, `metrics` and `report`; not cached."""
        return StepContainer(LATENCY_EVALUATOR, "evaluate_model", self.image, cached=False)

    @cached_property
    def promote_model(self) -> StepContainer:
        """From `model`, `model_blessing` and `infra_blessing` to `pushed_model`; not cached."""
        return StepContainer(MODEL_PUSHER, "promote_model", self.image, cached=False)


NAMES = tuple(name for name, member in vars(ComponentSet).items() if isinstance(member, cached_property))


def of_image(image: str) -> ComponentSet:
    """Return the components for an image: `of_image("registry.example.com/tpu2gpu:1").cast_model(...)`."""
    return ComponentSet(image)
