"""The rewriters of tf2onnx, which put one operation in the place of several: some are held back, some replaced."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tpu2gpu.trt_converter.onnx.patterns.gelu import rewrite_gelus
from tpu2gpu.trt_converter.onnx.patterns.layer_norm import rewrite_layer_norms


def _never(_: Any, __: Any) -> bool:
    return False


def _is_one_matrix(graph: Any, node: Any) -> bool:
    """Tell what gives one matrix: of a stack of identities tf2onnx makes one."""
    return bool(node.output) and bool(graph.get_rank(node.output[0]) == 2)


def _is_plain_product(graph: Any, node: Any) -> bool:
    """Tell what adds nothing but matrices, weighed with nothing but numbers: tf2onnx breaks at others."""
    inputs = [each for each in node.inputs if each is not None]
    weights = [each for mul in inputs if mul.type == "Mul" for each in mul.inputs if each is not None]
    ranks = [graph.get_rank(tensor) for tensor in node.input]
    constants = [graph.get_rank(each.output[0]) for each in weights if each.is_const()]
    return all(rank is not None and rank <= 2 for rank in ranks) and all(rank in (0, 1) for rank in constants)


GUARDS: dict[str, Callable[[Any, Any], bool]] = {
    "rewrite_flatten": _never,  # takes the rows of another tensor for the reshaped one's
    "rewrite_thresholded_relu": _never,  # takes a threshold for each element for one number
    "rewrite_eye": _is_one_matrix,
    "rewrite_gemm": _is_plain_product,
}
"""By a rewriter's name, told the last node of a pattern: whether it may have it."""


def rewrite_layer_normalization(graph: Any, _: Any) -> Any:
    """Put named operations in the place of formulas; tf2onnx makes an instance norm of a layer norm."""
    rewrite_layer_norms(graph)
    rewrite_gelus(graph)
    return graph.get_nodes()


REPLACED: dict[str, Callable[[Any, Any], Any]] = {"rewrite_layer_normalization": rewrite_layer_normalization}
"""By a rewriter's name: what works in its place."""

_FAILED = re.compile(r"rewriter <function (\w+) at ")


@contextmanager
def guarded_rewriters(left_out: Iterable[str] = ()) -> Iterator[None]:
    """Convert with guards before some rewriters and without others, and keep casts that round."""
    from tf2onnx import tfonnx
    from tf2onnx.optimizer import back_to_back_optimizer

    guards = {**GUARDS, **dict.fromkeys(left_out, _never)}
    originals = {name: getattr(tfonnx, name) for name in {**guards, **REPLACED}}
    casts = back_to_back_optimizer._func_map[("Cast",)]
    for name, rewriter in originals.items():
        work = REPLACED.get(name, rewriter)
        setattr(tfonnx, name, _guarded(work, guards[name]) if name in guards else work)
    back_to_back_optimizer._func_map[("Cast",)] = lambda graph, node, consumers: (
        casts(graph, node, consumers) if _keeps_all(graph, node) else []
    )
    try:
        yield
    finally:
        back_to_back_optimizer._func_map[("Cast",)] = casts
        for name, rewriter in originals.items():
            setattr(tfonnx, name, rewriter)


def failed_rewriters(complaints: Iterable[str]) -> set[str]:
    """Return the rewriters that broke, which tf2onnx logs while it goes on with half of their work."""
    return {match.group(1) for text in complaints if (match := _FAILED.match(text))}


def _guarded(rewriter: Callable[..., Any], may_have: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    def rewrite(graph: Any, nodes: Any) -> Any:
        if may_have is not _never:
            rewriter(graph, [node for node in nodes if may_have(graph, node)])
        return graph.get_nodes()

    return functools.wraps(rewriter)(rewrite)


def _keeps_all(graph: Any, node: Any) -> bool:
    """Tell whether a cast is to a type that holds every number of the other: a cast behind it may stand alone."""
    from tf2onnx.utils import map_onnx_to_numpy_type

    given, to = (graph.get_dtype(tensor) for tensor in (node.input[0], node.output[0]))
    if given is None or to is None:
        return False
    old, new = (np.dtype(map_onnx_to_numpy_type(dtype)) for dtype in (given, to))
    if old.kind in "iu" and new.kind == "f":  # which NumPy takes for safe from 64 bits on
        return old.itemsize * 8 <= np.finfo(new).nmant
    return np.can_cast(old, new, "safe")
