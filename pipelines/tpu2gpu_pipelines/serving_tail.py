"""The tail of a pipeline: from a trained model to a promoted GPU serving model, to append to any TFX pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.types.channel import BaseChannel

from tpu2gpu.checkpoint_importer.component import CheckpointImporter
from tpu2gpu.freezer.component import Freezer
from tpu2gpu.latency_evaluator.component import LatencyEvaluator
from tpu2gpu.model_pusher.component import ModelPusher
from tpu2gpu.precision_caster.component import PrecisionCaster
from tpu2gpu.trt_converter.component import TRTConverter
from tpu2gpu_pipelines.settings import Settings, as_settings


def gpu_serving(
    *,
    model: BaseChannel | None = None,
    checkpoint: BaseChannel | None = None,
    examples: BaseChannel,
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    split: str = "eval",
) -> list[BaseComponent]:
    """Make the components from import to promotion.

        components = [example_gen, transform, trainer]
        components += gpu_serving(
            model=trainer.outputs["model"], examples=example_gen.outputs["examples"], settings="serving.yaml"
        )

    Nothing of it stands under a condition, which Kubeflow would not evaluate: the ModelPusher looks at the blessings
    itself.

    Args:
        model: A Trainer's model; this or `checkpoint`.
        checkpoint: What a training elsewhere left behind, from an importer node.
        examples: Held-out examples, whose features feed the inputs of the same names.
        settings: Sections `import`, `cast`, `freeze`, `convert`, `evaluate` and `promote`, and `promotion_uri`: made
            already, as plain data, or a YAML file.
        split: The examples' split that is used.

    Raises:
        UsageError: Both or neither of `model` and `checkpoint` were given, or the settings cannot be used.
    """
    told = as_settings(settings)
    importer = CheckpointImporter(model=model, checkpoint=checkpoint, options=told.import_)
    caster = PrecisionCaster(
        model=importer.outputs["model"],
        options=told.cast,
        # The names of features may need telling, which those have done who set a budget.
        examples=examples if told.cast.max_relative_error is not None else None,
        split=split,
    )
    freezer = Freezer(model=caster.outputs["model"], options=told.freeze)
    converter = TRTConverter(
        model=freezer.outputs["model"],
        options=told.convert,
        examples=examples if told.convert.int8 else None,  # ranges are measured on real data
        split=split,
    )
    evaluator = LatencyEvaluator(
        model=converter.outputs["model"],
        reference=importer.outputs["model"],
        examples=examples,
        promotion_uri=told.promotion_folder,
        options=told.evaluate,
        split=split,
        hardware=told.hardware,
    )
    pusher = ModelPusher(
        model=converter.outputs["model"],
        model_blessing=evaluator.outputs["model_blessing"],
        infra_blessing=evaluator.outputs["infra_blessing"],
        promotion_uri=told.promotion_folder,
        options=told.promote,
    )
    return [importer, caster, freezer, converter, evaluator, pusher]
