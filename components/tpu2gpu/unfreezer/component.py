"""The Unfreezer component."""

from __future__ import annotations

from tfx.types.channel import BaseChannel

from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.unfreezer.interface import UNFREEZER
from tpu2gpu.unfreezer.options import UnfreezeOptions
from tpu2gpu.unfreezer.unfreezing import unfreeze_model


class Unfreezer(StepComponent):
    """Turns the constants of a frozen graph back into variables, with a checkpoint beside.

    Outputs: `model` (the SavedModel with variables, and `checkpoint/`).

    Args:
        model: The frozen SavedModel.
        options: Which constants.
    """

    FUNCTION = unfreeze_model
    INTERFACE = UNFREEZER

    def __init__(self, model: BaseChannel, options: UnfreezeOptions | None = None) -> None:
        super().__init__(options, source_model=model)
