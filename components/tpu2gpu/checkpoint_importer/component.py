"""The CheckpointImporter component."""

from __future__ import annotations

from typing import Any

from tfx.types.channel import BaseChannel

from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.interface import CHECKPOINT_IMPORTER
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UsageError
from tpu2gpu.tfx.artifacts import model_source
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.tfx.step import Step


class CheckpointImporter(StepComponent):
    """Makes a clean inference SavedModel of what a TPU training run left behind.

    Outputs: `model` (a SavedModel without TPU ops, training ops and framework names).

    Args:
        model: A Trainer's model; this or `checkpoint`.
        checkpoint: Any other training output.
        options: What to import, and how.

    Raises:
        UsageError: Both or neither of `model` and `checkpoint` were given.
    """

    FUNCTION = import_model
    INTERFACE = CHECKPOINT_IMPORTER

    def __init__(
        self,
        model: BaseChannel | None = None,
        checkpoint: BaseChannel | None = None,
        options: ImportOptions | None = None,
    ) -> None:
        if (model is None) == (checkpoint is None):
            given = "neither" if model is None else "both"
            raise UsageError(f"CheckpointImporter takes either model or checkpoint, and {given} was given")
        super().__init__(options, source_model=model, checkpoint=checkpoint)

    @classmethod
    def source(cls, step: Step) -> Any:
        """Return the path of the model, or of the checkpoint."""
        model = step.input("source_model")
        return model_source(model) if model else step.input("checkpoint").uri
