"""What follows for a chain of parts from a core that is right and outputs that are off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.trt_converter.judge.parting import decides
from tpu2gpu.trt_converter.judge.verdict import is_off

Figures = Mapping[str, Mapping[str, Any]]


def decided_otherwise(outputs: Figures, core: Figures, tolerance: float, post: ServingModel | None) -> bool:
    """Tell whether outputs are off that the core's are not, behind decisions of the last part.

    Of two boxes of nearly the same score, rounding in the core says which one suppression keeps.

    Args:
        outputs: How far the model's outputs are off.
        core: How far the core's are.
        tolerance: The largest error that is none.
        post: The last part; None where there is none.
    """
    if post is None or any(is_off(each, tolerance) for each in core.values()):
        return False
    is_off_behind = any(is_off(each, tolerance) for each in outputs.values())
    return is_off_behind and any(decides(node, post.functions) for node in post.nodes.values())
