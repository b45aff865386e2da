"""Marks that compilers and exporters leave on nodes: devices, and attributes whose names begin with `_`."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.shapes.noted_shapes import NOTED


def drop_marks(node: Any, *, keep_shapes: bool = False) -> None:
    """Take a node's device and marks away (`_tpu_replicate`, `_output_shapes`), but for shapes that are to stay."""
    if node.device:
        node.device = ""
    attributes = node.attr
    for name in [name for name in attributes if name[:1] == "_"]:
        if name != NOTED or not keep_shapes:
            del attributes[name]
