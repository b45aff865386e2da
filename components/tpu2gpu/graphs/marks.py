"""Marks that compilers and exporters leave on nodes: devices, and attributes whose names begin with `_`."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.shapes.array_elements import keep_gathered_shape


def drop_marks(node: Any) -> None:
    """Take a node's device and marks away (`_tpu_replicate`, `_output_shapes`), but for shapes told nowhere else."""
    node.device = ""
    keep_gathered_shape(node)
    for attribute in [attribute for attribute in node.attr if attribute.startswith("_")]:
        del node.attr[attribute]
