"""`tpu2gpu freeze`."""

from __future__ import annotations

from tpu2gpu.command_line import step_command

FREEZE = step_command(
    "freeze",
    "Turn a SavedModel's variables into constants.",
    "tpu2gpu.freezer.freezing:freeze_model",
    "tpu2gpu.freezer.options:FreezeOptions",
)
