"""Rules for the ops that networks are made of, so that TensorFlow need not be loaded to ask it for their shapes.

They answer where the batch goes through untouched and nothing else can be the batch; the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpu2gpu.graphs.shapes.rules import Op, TensorFacts, rule
from tpu2gpu.graphs.shapes.symbolic import Shape, Size, number


@rule("Conv2D", "DepthwiseConv2dNative")
def _convolution(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    kernel = _numbers(op.shapes[1])
    if kernel is None or len(kernel) != 4:
        return None
    height, width, taken, given = kernel
    depthwise = op.node.op == "DepthwiseConv2dNative"

    def channels(found: int) -> int | None:
        if depthwise:
            return taken * given if found == taken else None
        return given if taken and found % taken == 0 and given % (found // taken or 1) == 0 else None

    return _slide(facts, op, (height, width), channels)


@rule("MaxPool", "AvgPool")
def _pool(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    window, axes = _integers(facts, op, "ksize"), _axes(facts, op)
    if axes is None or len(window) != 4 or window[0] != 1 or window[axes[-1]] != 1:
        return None
    return _slide(facts, op, (window[axes[0]], window[axes[1]]), lambda found: found)


def _slide(
    facts: TensorFacts, op: Op, window: tuple[int, int], channels: Callable[[int], int | None]
) -> list[Shape | None] | None:
    """Return the shape that a window gives when it slides over images, None where TensorFlow is to be asked."""
    shape, axes = op.shapes[0], _axes(facts, op)
    strides, dilations = _integers(facts, op, "strides"), _integers(facts, op, "dilations") or [1] * 4
    if shape is None or axes is None or {len(it) for it in (shape, strides, dilations)} != {4}:
        return None
    sizes = _numbers([shape[axis] for axis in axes])
    if sizes is None or strides[0] != 1 or strides[axes[-1]] != 1 or min(strides) < 1:
        return None
    result: list[Size | None] = list(shape)
    for axis, size, length in zip(axes[:-1], sizes[:-1], window, strict=True):
        padding, covered = _padding(facts, op, axis), (length - 1) * dilations[axis] + 1
        spare = size - 1 if padding is None else size + padding - covered
        if spare < 0:
            return None
        result[axis] = number(spare // strides[axis] + 1)
    depth = channels(sizes[-1])
    if depth is None:
        return None
    result[axes[-1]] = number(depth)
    return [tuple(result)]


def _integers(facts: TensorFacts, op: Op, name: str) -> list[int]:
    found = facts.model.ops.attribute(op.node, name)
    return [] if found is None else list(found.list.i)


def _flag(facts: TensorFacts, op: Op, name: str) -> bool:
    found = facts.model.ops.attribute(op.node, name)
    return found is not None and bool(found.b)


def _text(facts: TensorFacts, op: Op, name: str) -> bytes:
    found = facts.model.ops.attribute(op.node, name)
    return b"" if found is None else bytes(found.s)


def _axes(facts: TensorFacts, op: Op) -> tuple[int, int, int] | None:
    """Return the axes of height, width and channels."""
    return {b"NHWC": (1, 2, 3), b"NCHW": (2, 3, 1)}.get(_text(facts, op, "data_format"))


def _padding(facts: TensorFacts, op: Op, axis: int) -> int | None:
    """Return how much an axis grows by padding, None where that depends on its size (SAME)."""
    padding = _text(facts, op, "padding")
    if padding == b"EXPLICIT":
        return sum(_integers(facts, op, "explicit_paddings")[2 * axis : 2 * axis + 2])
    return None if padding == b"SAME" else 0


@rule("MatMul", "BatchMatMul", "BatchMatMulV2")
def _multiply(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    first, second = op.shapes
    if first is None or second is None or len(first) != len(second) or len(first) < 2:
        return None
    names = ("transpose_a", "transpose_b") if op.node.op == "MatMul" else ("adj_x", "adj_y")
    turned = [_flag(facts, op, name) for name in names]
    rows, inner = first[-2:][::-1] if turned[0] else first[-2:]
    other, columns = second[-2:][::-1] if turned[1] else second[-2:]
    if _plain(inner) is None or _plain(inner) != _plain(other) or _plain(columns) is None:
        return None
    if not all(map(_alike, first[:-2], second[:-2])):
        return None
    return [(*first[:-2], rows, columns)]


@rule("Mean", "Sum", "Max", "Min", "All", "Any")
def _reduce(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    shape, chosen = op.shapes[0], facts.values.get(op.inputs[1])
    if shape is None or chosen is None or any(not -len(shape) <= facts.at(axis) < len(shape) for axis in chosen):
        return None
    axes = {facts.at(axis) % len(shape) for axis in chosen}
    if _flag(facts, op, "keep_dims"):
        return [tuple(number(1) if axis in axes else size for axis, size in enumerate(shape))]
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


@rule("Pad", "PadV2", "MirrorPad")
def _pad(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    shape, amounts = op.shapes[0], facts.values.get(op.inputs[1])
    if shape is None or amounts is None or len(amounts) != 2 * len(shape):
        return None
    result: list[Size | None] = []
    for size, before, after in zip(shape, amounts[::2], amounts[1::2], strict=True):
        added = facts.at(before) + facts.at(after)
        plain = _plain(size)
        if added and plain is None:
            return None
        result.append(size if plain is None else number(plain + added))
    return [tuple(result)]


@rule("ConcatV2")
def _concatenate(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    sources = op.inputs[:-1]
    if all(it in facts.values and len(facts.shapes.get(it) or ()) == 1 for it in sources):
        facts.values[op.node.name] = tuple(size for it in sources for size in facts.values[it])
    parts, chosen = op.shapes[:-1], facts.values.get(op.inputs[-1])
    shapes = [shape for shape in parts if shape is not None]
    first = shapes[0] if shapes else ()
    if chosen is None or len(shapes) != len(parts) or any(len(shape) != len(first) for shape in shapes):
        return None
    if not first or not -len(first) <= facts.at(chosen[0]) < len(first):
        return None
    axis = facts.at(chosen[0]) % len(first)
    lengths = _numbers([shape[axis] for shape in shapes])
    others = [(*shape[:axis], *shape[axis + 1 :]) for shape in shapes]
    if lengths is None or not all(map(_alike, others[0] * len(others), [size for other in others for size in other])):
        return None
    return [(*first[:axis], number(sum(lengths)), *first[axis + 1 :])]


def _plain(size: Size | None) -> int | None:
    """Return a size that is a number and cannot be the batch, None for any other."""
    return None if size is None or size.batched or size.origins else size.before * size.after


def _numbers(sizes: Sequence[Size | None] | None) -> list[int] | None:
    """Return sizes that are all numbers and cannot be the batch."""
    found = [_plain(size) for size in sizes or (None,)]
    return None if None in found else [size for size in found if size is not None]


def _alike(first: Size | None, second: Size | None) -> bool:
    """Tell whether two sizes are known to be equal, at every batch, with nothing to find out from it."""
    if first is None or second is None or first.origins or second.origins:
        return False
    return first.same(second)
