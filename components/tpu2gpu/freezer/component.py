"""The Freezer component."""

from __future__ import annotations

from tfx.types.channel import BaseChannel

from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.interface import FREEZER
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.tfx.component_base import StepComponent


class Freezer(StepComponent):
    """Turns a model's variables into constants of its graph.

    Outputs: `model` (the frozen SavedModel).

    Args:
        model: The SavedModel to freeze.
        options: How to freeze.
    """

    FUNCTION = freeze_model
    INTERFACE = FREEZER

    def __init__(self, model: BaseChannel, options: FreezeOptions | None = None) -> None:
        super().__init__(options, source_model=model)
