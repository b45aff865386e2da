"""The interface of the CheckpointImporter's step."""

from __future__ import annotations

from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.interface import CHECKPOINT, MODEL, StepInterface

CHECKPOINT_IMPORTER = StepInterface(
    component="tpu2gpu.checkpoint_importer.component.CheckpointImporter",
    summary="Make a clean inference SavedModel of what a training run left behind.",
    options=ImportOptions,
    optional_inputs={"source_model": MODEL, "checkpoint": CHECKPOINT},
    outputs={"model": MODEL},
)
