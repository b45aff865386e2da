"""What a source format hands to the import."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.graphs.formats.variable_restore import RestoreReport
from tpu2gpu.graphs.model import ServingModel


@attrs.define
class Found:
    """A serving model, and how it came about.

    Attributes:
        model: The model.
        done: What the graph went through: kinds of change, and the nodes.
        restored: What became of the checkpoint's tensors, None without a checkpoint.
        batch: Examples in each step of training on one core, where the inputs tell.
        keep_alive: What must live until the model is written.
    """

    model: ServingModel
    done: dict[str, list[str]]
    restored: RestoreReport | None = None
    batch: int | None = None
    keep_alive: Any = None
