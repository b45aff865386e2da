"""The interface of the Unfreezer's step."""

from __future__ import annotations

from tpu2gpu.interface import MODEL, StepInterface
from tpu2gpu.unfreezer.options import UnfreezeOptions

UNFREEZER = StepInterface(
    component="tpu2gpu.unfreezer.component.Unfreezer",
    summary="Turn a frozen model's weights into variables again.",
    options=UnfreezeOptions,
    inputs={"source_model": MODEL},
    outputs={"model": MODEL},
)
