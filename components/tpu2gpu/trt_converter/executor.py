"""Runs a TRTConverter."""

from __future__ import annotations

from typing import Any

import attrs
from tfx.dsl.components.base.base_executor import BaseExecutor

from tpu2gpu.tfx.artifacts import examples_folder, model_source, model_target, write_metrics
from tpu2gpu.tfx.step import Step, log_progress
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

_WORDS = ("backend", "backend_version", "precision", "verified_level")


class Executor(BaseExecutor):
    """Converts with `tpu2gpu.convert_model`."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run the step; an error of the tree says why it cannot."""
        step = Step(self, input_dict, output_dict, exec_properties)
        options = step.options(ConvertOptions)
        if (examples := step.input("examples")) is not None:
            options = attrs.evolve(options, examples=(str(examples_folder(examples, exec_properties["split"])),))
        result = convert_model(
            model_source(step.input("source_model")),
            model_target(step.output("model")),
            options,
            force=True,
            run_name=step.run_name,
            progress=log_progress,
        )
        words = {name: getattr(result, name) for name in _WORDS}
        write_metrics(step.output("metrics"), result.metrics, words)
