"""Layer norm, which graphs write out: ONNX has an operation for it, whose sums engines keep in float32."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from tpu2gpu.trt_converter.onnx.patterns.terms import Arithmetic, Terms

_NEAR = 12  # nodes that may stand between a root and the end of its formula
_ROUNDING = 1e-6


@attrs.frozen
class _Statistics:
    """What a row is normalised by.

    Attributes:
        tensor: The tensor whose rows these are.
        mean: Their mean.
        inverse: The inverse of their deviation, as terms name it.
        epsilon: What is added to the variance.
    """

    tensor: str
    mean: str
    inverse: str
    epsilon: float


@attrs.frozen
class _Norm:
    """A formula that was found.

    Attributes:
        end: The node that makes its result.
        statistics: What it normalises by.
        scale: The tensor that scales a row; empty where none does.
        offset: The tensor that is added to a row; empty where none is.
    """

    end: Any
    statistics: _Statistics
    scale: str
    offset: str


def rewrite_layer_norms(graph: Any) -> None:
    """Put ONNX's `LayerNormalization` in the place of the formula, along the last axis.

    Args:
        graph: A graph of tf2onnx's, of TensorFlow's ops.
    """
    reading = Arithmetic(graph)
    for node in list(graph.get_nodes()):
        statistics = _statistics(reading, node) if node.type in ("Rsqrt", "Sqrt") else None
        norm = _find(reading, node, statistics) if statistics is not None else None
        if norm is not None:
            _put(reading, norm)


def _statistics(reading: Arithmetic, root: Any) -> _Statistics | None:
    """Recognise the root of a variance and a small number."""
    total = reading.maker(root.input[0])
    if total is None or total.type not in ("Add", "AddV2"):
        return None
    for variance, small in (total.input, total.input[::-1]):
        epsilon = reading.number(small)
        pair = _variance(reading, variance) if epsilon is not None and epsilon > 0 else None
        if pair is not None and epsilon is not None:
            name = root.output[0]
            return _Statistics(*pair, name if root.type == "Rsqrt" else f"1/{name}", epsilon)
    return None


def _variance(reading: Arithmetic, tensor: str) -> tuple[str, str] | None:
    """Recognise a variance along the last axis; return what it is of, and the mean."""
    node = reading.maker(tensor)
    if node is None:
        return None
    if node.type in ("Maximum", "Relu"):  # which keeps a difference of squares from falling below zero
        bounds = [reading.number(it) for it in node.input]
        if node.type == "Relu" or 0 in bounds:
            return _variance(reading, node.input[1 if bounds[0] == 0 else 0])
        return None
    if node.type == "Sub":
        return _difference_of_squares(reading, node)
    squared = reading.maker(node.input[0]) if _is_row_mean(reading, node) else None
    if squared is None:
        return None
    if squared.type == "SquaredDifference":
        return _centred(reading, *squared.input)
    difference = reading.maker(squared.input[0]) if _is_square(reading, squared) else None
    if difference is None or difference.type != "Sub":
        return None
    return _centred(reading, *difference.input)


def _difference_of_squares(reading: Arithmetic, node: Any) -> tuple[str, str] | None:
    """Recognise the mean of the squares, less the square of the mean."""
    squares, square = (reading.maker(it) for it in node.input)
    inner = reading.maker(squares.input[0]) if squares is not None and _is_row_mean(reading, squares) else None
    if inner is None or square is None or not (_is_square(reading, inner) and _is_square(reading, square)):
        return None
    return _centred(reading, inner.input[0], square.input[0])


def _is_square(reading: Arithmetic, node: Any) -> bool:
    is_product = node.type == "Mul" and len({reading.origin(it) for it in node.input}) == 1
    return node.type == "Square" or is_product


def _centred(reading: Arithmetic, tensor: str, mean: str) -> tuple[str, str] | None:
    """Return a tensor and its mean, where that is what it is."""
    node = reading.maker(mean)
    if node is None or not _is_row_mean(reading, node) or reading.origin(node.input[0]) != reading.origin(tensor):
        return None
    return reading.origin(tensor), str(node.output[0])


def _is_row_mean(reading: Arithmetic, node: Any) -> bool:
    """Tell a mean along the last axis, which stays as 1."""
    if node.type != "Mean" or not node.get_attr_value("keep_dims", False):
        return False
    axes, rank = reading.array(node.input[1]), reading.graph.get_rank(node.input[0])
    return axes is not None and axes.size == 1 and rank is not None and int(axes.reshape(-1)[0]) % rank == rank - 1


def _find(reading: Arithmetic, root: Any, statistics: _Statistics) -> _Norm | None:
    """Return the formula of a root that holds most: scale and offset, where there are any."""
    found: list[_Norm] = []
    means = [it for it in reading.graph.find_output_consumers(statistics.tensor) if _is_row_mean(reading, it)]
    atoms = {it: it for it in (statistics.tensor, statistics.mean, root.output[0])}
    atoms |= {it.output[0]: statistics.mean for it in means}
    for end in reading.ahead(root.output[0], _NEAR):
        if end.type in ("Cast", "Identity") or reading.graph.get_shape(end.output[0]) is None:
            continue
        parts = _parts(reading, reading.terms(end.output[0], atoms), statistics)
        if parts is not None and _fits(reading, statistics, parts):
            found.append(_Norm(end, statistics, *parts))
    return max(found, key=lambda it: bool(it.scale) + bool(it.offset), default=None)


def _parts(reading: Arithmetic, terms: Terms, statistics: _Statistics) -> tuple[str, str] | None:
    """Return scale and offset of `x * r * scale - mean * r * scale + offset`; None where a tensor is not that."""
    factors: dict[str, tuple[str, ...]] = {}
    offset: tuple[str, ...] = ()
    for names, factor in terms.items():
        sign = -1 if statistics.mean in names else 1
        if abs(factor - sign) > _ROUNDING:
            return None
        left = list(names)
        if statistics.inverse not in names:
            if offset or len(names) != 1 or names[0] in (statistics.tensor, statistics.mean):
                return None
            offset = names
            continue
        left.remove(statistics.inverse)
        centre = statistics.mean if sign < 0 else statistics.tensor
        if centre not in left or len(left) > 2:
            return None
        left.remove(centre)
        factors[centre] = tuple(left)
    if len(factors) != 2 or len(set(factors.values())) != 1:
        return None
    (scale,) = set(factors.values())
    return "".join(scale), "".join(offset)


def _fits(reading: Arithmetic, statistics: _Statistics, parts: tuple[str, str]) -> bool:
    """Tell whether scale and offset are constants of a row's form."""
    size = _row_size(reading, statistics)
    return size > 0 and all(not it or _row(reading, it, size) is not None for it in parts)


def _row_size(reading: Arithmetic, statistics: _Statistics) -> int:
    shape = reading.graph.get_shape(statistics.tensor)
    return int(shape[-1]) if shape else -1


def _row(reading: Arithmetic, tensor: str, size: int) -> np.ndarray[Any, Any] | None:
    array = reading.array(tensor)
    return array.reshape(-1) if array is not None and array.size == size == array.shape[-1] else None


def _put(reading: Arithmetic, norm: _Norm) -> None:
    """Make the operation; where the formula's ends differ in type, it computes in float32."""
    from onnx import TensorProto
    from tf2onnx import utils

    graph, end, statistics = reading.graph, norm.end, norm.statistics
    output, name = end.output[0], end.name
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    types = {dtype, graph.get_dtype(statistics.tensor)}
    if not types <= {TensorProto.FLOAT, TensorProto.FLOAT16}:
        return
    inner = dtype if len(types) == 1 else TensorProto.FLOAT
    kind, size = utils.map_onnx_to_numpy_type(inner), _row_size(reading, statistics)
    rows = []
    for tensor, neutral in ((norm.scale, 1), (norm.offset, 0)):
        row = _row(reading, tensor, size) if tensor else np.full(size, neutral)
        rows.append(graph.make_const(utils.make_name(name), np.asarray(row).astype(kind)).output[0])
    inputs = [reading.cast(statistics.tensor, inner, end), *rows]
    graph.remove_node(name)
    how: dict[str, Any] = {"attr": {"axis": -1, "epsilon": statistics.epsilon}, "shapes": [shape]}
    if inner == dtype:
        graph.make_node("LayerNormalization", inputs, name=name, outputs=[output], dtypes=[dtype], **how)
        return
    wide = graph.make_node("LayerNormalization", inputs, name=utils.make_name(name), dtypes=[inner], **how)
    graph.make_node(
        "Cast", wide.output, attr={"to": dtype}, name=name, outputs=[output], shapes=[shape], dtypes=[dtype]
    )
