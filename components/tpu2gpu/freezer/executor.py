"""Runs a Freezer."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor

from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.tfx.artifacts import model_source, model_target
from tpu2gpu.tfx.step import Step, log_progress


class Executor(BaseExecutor):
    """Freezes with `tpu2gpu.freeze_model`."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run the step; an error of the tree says why it cannot."""
        step = Step(self, input_dict, output_dict, exec_properties)
        freeze_model(
            model_source(step.input("source_model")),
            model_target(step.output("model")),
            step.options(FreezeOptions),
            force=True,
            run_name=step.run_name,
            progress=log_progress,
        )
