"""Runs a CheckpointImporter."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor

from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.tfx.artifacts import model_source, model_target
from tpu2gpu.tfx.step import Step, log_progress


class Executor(BaseExecutor):
    """Imports with `tpu2gpu.import_model`."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run the step; an error of the tree says why it cannot."""
        step = Step(self, input_dict, output_dict, exec_properties)
        trained, checkpoint = step.input("source_model"), step.input("checkpoint")
        import_model(
            model_source(trained) if trained else checkpoint.uri,
            model_target(step.output("model")),
            step.options(ImportOptions),
            force=True,
            run_name=step.run_name,
            progress=log_progress,
        )
