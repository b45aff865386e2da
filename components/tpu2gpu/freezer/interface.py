"""The interface of the Freezer's step."""

from __future__ import annotations

from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.interface import MODEL, StepInterface

FREEZER = StepInterface(
    component="tpu2gpu.freezer.component.Freezer",
    summary="Turn a model's variables into constants of its graph.",
    options=FreezeOptions,
    inputs={"source_model": MODEL},
    outputs={"model": MODEL},
)
