"""The custom calls of a StableHLO module: programs of their own, unless they are known only to compute."""

from __future__ import annotations

import functools
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.graphs.op_classes import OpClass
from tpu2gpu.graphs.stablehlo.artifact import MAGIC, read_head

_CALLS = b"custom_call"  # what the bytecode names the operation


def class_of_module(node: Any) -> tuple[OpClass, str]:
    """Return what the module of an `XlaCallModule` does, and the custom calls that make it so.

    One that cannot be read counts as unknown.
    """
    module = node.attr["module"].s
    if module.startswith(MAGIC):
        if _CALLS not in module:
            return "pure", ""
    elif b"\\" in module:  # and a reader that drops what nothing needs would not show it
        return "custom", "its text spells names by numbers"
    try:
        targets = _unknown_targets(node.SerializeToString(deterministic=True))
    except Tpu2GpuError as error:
        return "unknown", error.message
    return ("custom", ", ".join(f"@{target}" for target in targets)) if targets else ("pure", "")


@functools.lru_cache(maxsize=16)
def _unknown_targets(serialized: bytes) -> tuple[str, ...]:
    from tensorflow.core.framework import node_def_pb2

    from tpu2gpu.graphs.stablehlo.deserializing import deserialize
    from tpu2gpu.graphs.stablehlo.lowering.lowering import unknown_calls
    from tpu2gpu.graphs.stablehlo.text import parse_module

    node = node_def_pb2.NodeDef.FromString(serialized)
    (text,) = deserialize([node.attr["module"].s], [read_head(node)])
    return tuple(unknown_calls(parse_module(text)))
