"""Gelu, which graphs write in many ways: in the one that ONNX Runtime and engines have a kernel for.

ONNX has an operation for it from opset 20 on, and tf2onnx writes none above 18.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpu2gpu.trt_converter.onnx.patterns.terms import Arithmetic, Terms, is_close

_ROOT = math.sqrt(2 / math.pi)
_CUBE = 0.044715
_NEAR = 12  # tensors that may stand between an activation and the function in it


def rewrite_gelus(graph: Any) -> None:
    """Write `x * (1 + erf(x / sqrt(2))) / 2`, and its kin by tanh, as the fusions of kernels know it.

    Args:
        graph: A graph of tf2onnx's, of TensorFlow's ops.
    """
    reading = Arithmetic(graph)
    for node in list(graph.get_nodes()):
        if node.type in ("Erf", "Erfc", "Tanh") and (found := _find(reading, node)):
            _put(reading, *found, node)


def _find(reading: Arithmetic, node: Any) -> tuple[str, Any] | None:
    """Return what a gelu is of, and the node that makes its result."""
    tolerance = _tolerance(reading, node)
    for x in reading.behind(node.input[0], _NEAR):
        if not is_close(reading.terms(node.input[0], {x: x}), _inner(node.type, x), tolerance):
            continue
        made = node.output[0]
        halves = {(x, made): 0.5} if node.type == "Erfc" else {(x,): 0.5, (x, made): 0.5}
        wanted = {tuple(sorted(names)): factor for names, factor in halves.items()}
        for end in reading.ahead(made, _NEAR):
            if is_close(reading.terms(end.output[0], {x: x, made: made}), wanted, tolerance) and end.type != "Cast":
                return x, end
    return None


def _tolerance(reading: Arithmetic, node: Any) -> float:
    """Return by what share constants may differ: by the rounding of the type that they were in."""
    from onnx import TensorProto

    return 1e-3 if reading.graph.get_dtype(node.input[0]) == TensorProto.FLOAT16 else 1e-5


def _inner(op: str, x: str) -> Terms:
    if op == "Tanh":
        return {(x,): _ROOT, (x, x, x): _ROOT * _CUBE}
    return {(x,): math.sqrt(0.5) * (-1 if op == "Erfc" else 1)}


def _put(reading: Arithmetic, x: str, end: Any, function: Any) -> None:
    """Make the activation, in the widest type that the formula has."""
    from onnx import TensorProto
    from tf2onnx import utils

    graph = reading.graph
    output, name = end.output[0], end.name
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    types, is_exact = {dtype, graph.get_dtype(x), graph.get_dtype(function.output[0])}, function.type != "Tanh"
    if not types <= {TensorProto.FLOAT, TensorProto.FLOAT16}:
        return
    inner = TensorProto.FLOAT if TensorProto.FLOAT in types else dtype
    kind = utils.map_onnx_to_numpy_type(inner)
    x = reading.cast(x, inner, end)

    def make(op: str, *inputs: Any, **how: Any) -> str:
        refs = [it if isinstance(it, str) else constant(it) for it in inputs]
        how = {"name": utils.make_name(name), "shapes": [shape], "dtypes": [inner], **how}
        return str(graph.make_node(op, refs, **how).output[0])

    def constant(value: float) -> str:
        return str(graph.make_const(utils.make_name(name), np.array(value, kind)).output[0])

    if is_exact:
        inside = make("Erf", make("Div", x, math.sqrt(2)))
    else:
        cube = make("Mul", make("Pow", x, 3.0), _CUBE)
        inside = make("Tanh", make("Mul", make("Add", x, cube), _ROOT))
    graph.remove_node(name)
    both = make("Mul", x, 0.5), make("Add", inside, 1.0)
    last: dict[str, Any] = {"name": name, "outputs": [output], "dtypes": [dtype]}
    if inner == dtype:
        make("Mul", *both, **last)
    else:
        make("Cast", make("Mul", *both), attr={"to": dtype}, **last)
