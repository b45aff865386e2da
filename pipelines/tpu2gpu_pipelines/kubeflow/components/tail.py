"""The end of a pipeline, from import to promotion, as tasks of KFP's SDK: what `gpu_serving` is to a TFX pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs
from kfp.dsl import PipelineTask

from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.kubeflow.components.component_set import ComponentSet, of_image
from tpu2gpu_pipelines.settings import Settings, as_settings


@attrs.frozen
class ServingTasks:
    """The tasks; each takes accelerators, volumes and secrets as any task of KFP's SDK does."""

    imported: PipelineTask
    cast: PipelineTask
    frozen: PipelineTask
    converted: PipelineTask
    evaluated: PipelineTask
    promoted: PipelineTask


def gpu_serving(
    *,
    examples: Any,
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    model: Any = None,
    checkpoint: Any = None,
    components: ComponentSet | None = None,
) -> ServingTasks:
    """Add the steps from import to promotion to the pipeline that is being defined.

    Args:
        examples: Held-out examples: a folder with `Split-eval`, or the files themselves.
        settings: Sections `import`, `cast`, `freeze`, `convert`, `evaluate` and `promote`, and `promotion_uri`: made
            already, as plain data, or a YAML file.
        model: What a training task put out; this or `checkpoint`.
        checkpoint: A training's output from elsewhere, from `dsl.importer`.
        components: Those of an image; of `settings.kubeflow.image` when not given.

    Raises:
        UsageError: Both or neither of `model` and `checkpoint` were given, or an option is not allowed.
    """
    if (model is None) == (checkpoint is None):
        raise UsageError("gpu_serving takes either model or checkpoint")
    settings = as_settings(settings)
    use = components or of_image(settings.kubeflow.image or "tpu2gpu:cpu")
    told = {
        name: changed(getattr(settings, name))
        for name in ("import_", "cast", "freeze", "convert", "evaluate", "promote")
    }
    if model is not None:
        imported = use.import_model(source_model=model, **told["import_"])
    else:
        imported = use.import_checkpoint(checkpoint=checkpoint, **told["import_"])
    if settings.cast.max_relative_error is not None:  # what holds a budget has told the names of features
        cast = use.cast_model_on_examples(source_model=imported.outputs["model"], examples=examples, **told["cast"])
    else:
        cast = use.cast_model(source_model=imported.outputs["model"], **told["cast"])
    frozen = use.freeze_model(source_model=cast.outputs["model"], **told["freeze"])
    if settings.convert.int8:  # ranges are measured on real data
        converted = use.convert_model_on_examples(
            source_model=frozen.outputs["model"], examples=examples, **told["convert"]
        )
    else:
        converted = use.convert_model(source_model=frozen.outputs["model"], **told["convert"])
    evaluated = use.evaluate_model(
        model=converted.outputs["model"],
        reference=imported.outputs["model"],
        examples=examples,
        promotion_uri=settings.promotion_folder,
        **told["evaluate"],
    )
    promoted = use.promote_model(
        model=converted.outputs["model"],
        model_blessing=evaluated.outputs["model_blessing"],
        infra_blessing=evaluated.outputs["infra_blessing"],
        promotion_uri=settings.promotion_folder,
        **told["promote"],
    )
    return ServingTasks(imported, cast, frozen, converted, evaluated, promoted)


def changed(options: Any) -> dict[str, Any]:
    """Return the options that are not at their default, as a component takes them."""
    defaults = type(options)()
    values = {field.name: getattr(options, field.name) for field in attrs.fields(type(options))}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(defaults, name)
    }
