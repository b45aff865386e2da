"""Runs a PrecisionCaster."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tfx.artifacts import model_source, model_target, write_metrics
from tpu2gpu.tfx.step import Step, figures, log_progress, on_runner


class Executor(BaseBeamExecutor):
    """Casts with `tpu2gpu.cast_model`; on Beam where the pipeline's Beam arguments name a runner."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run the step; an error of the tree says why it cannot."""
        step = Step(self, input_dict, output_dict, exec_properties)
        result = cast_model(
            model_source(step.input("source_model")),
            model_target(step.output("model")),
            on_runner(step.options(CastOptions), self._beam_pipeline_args),
            force=True,
            run_name=step.run_name,
            progress=log_progress,
        )
        write_metrics(step.output("metrics"), figures(result))
