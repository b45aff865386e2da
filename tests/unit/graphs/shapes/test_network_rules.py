"""Rules of the ops of networks say what TensorFlow's own shape functions say, or nothing; they change no node."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import DT_FLOAT, DT_INT32
from tpu2gpu.graphs.shapes import network_rules  # noqa: F401 - registers its rules
from tpu2gpu.graphs.shapes.rules import RULES, Op, TensorFacts
from tpu2gpu.graphs.shapes.shape_functions import ShapeFunctions
from tpu2gpu.graphs.shapes.symbolic import BATCH, MustBeBatchError, Shape, Size, UnprovedError, number

BATCH_SIZE = 4
MODEL: Any = SimpleNamespace(ops=OpDefs())  # all that these rules ask of a model
Case = tuple[Any, list[Shape | None], list[list[Size] | None]]


def shape(*sizes: int | Size) -> Shape:
    return tuple(size if isinstance(size, Size) else number(size) for size in sizes)


def window(draw: random.Random, op: str) -> Case:
    nchw = draw.random() < 0.3
    channels, height, width = draw.choice([1, 2, 4, 6]), draw.randint(1, 12), draw.randint(1, 12)
    image = (BATCH, channels, height, width) if nchw else (BATCH, height, width, channels)

    def per_axis(first: int, second: int) -> list[int]:
        return [1, 1, first, second] if nchw else [1, first, second, 1]

    node = new_node("it", op, T=DT_FLOAT)
    node.attr["data_format"].s = b"NCHW" if nchw else b"NHWC"
    padding = draw.choice([b"SAME", b"VALID", b"EXPLICIT"][: 2 if op == "AvgPool" else 3])
    node.attr["padding"].s = padding
    if padding == b"EXPLICIT":
        amounts = [(0, 0), *[(draw.randint(0, 2), draw.randint(0, 2)) for _ in range(2)]]
        pairs = [(0, 0), *amounts] if nchw else [*amounts, (0, 0)]
        node.attr["explicit_paddings"].list.i.extend(sum(pairs, ()))
    node.attr["strides"].list.i.extend(per_axis(draw.randint(1, 3), draw.randint(1, 3)))
    size = (draw.randint(1, 5), draw.randint(1, 5))
    if op.endswith("Pool"):
        node.attr["ksize"].list.i.extend(per_axis(*size))
        return node, [shape(*image)], [None]
    if draw.random() < 0.5:
        node.attr["dilations"].list.i.extend(per_axis(draw.randint(1, 2), draw.randint(1, 2)))
    kernel = shape(*size, draw.choice([channels, 1, 2, 3]), draw.choice([1, 3, 4]))
    return node, [shape(*image), kernel], [None, None]


def product(draw: random.Random, op: str) -> Case:
    names = ("transpose_a", "transpose_b") if op == "MatMul" else ("adj_x", "adj_y")
    node = new_node("it", op, T=DT_FLOAT)
    rows: list[int | Size] = [draw.choice([BATCH, 3]), 5]
    columns: list[int | Size] = [draw.choice([2, 5, 5, BATCH]), draw.choice([3, 7])]
    for name, sizes in zip(names, (rows, columns), strict=True):
        if draw.random() < 0.5:  # else the op's default
            node.attr[name].b = draw.random() < 0.5
            if node.attr[name].b:
                sizes.reverse()
    leading: list[int | Size] = [] if op == "MatMul" else draw.choice([[], [BATCH], [BATCH, 2], [3]])
    other = [draw.choice([1, size, size]) if op.endswith("V2") else size for size in leading]
    return node, [shape(*leading, *rows), shape(*other, *columns)], [None, None]


def integers(values: list[int]) -> list[Size]:
    return [number(value) for value in values]


def reduction(draw: random.Random, op: str) -> Case:
    node = new_node("it", op, Tidx=DT_INT32, **({} if op in ("All", "Any") else {"T": DT_FLOAT}))
    if draw.random() < 0.5:
        node.attr["keep_dims"].b = draw.random() < 0.5
    sizes: list[int | Size] = [BATCH, 3, 5, 1][: draw.randint(1, 4)]
    axes = draw.sample(range(len(sizes)), draw.randint(0, len(sizes)))
    axes = [axis - draw.choice([0, len(sizes)]) for axis in axes]
    return node, [shape(*sizes), shape(len(axes))], [None, integers(axes)]


def padding(draw: random.Random, op: str) -> Case:
    node = new_node("it", op, T=DT_FLOAT, Tpaddings=DT_INT32)
    if op == "MirrorPad":
        node.attr["mode"].s = draw.choice([b"REFLECT", b"SYMMETRIC"])
    amounts = [draw.choice([0, 0, 0, 1]), 0, *(draw.randint(0, 2) for _ in range(4))]
    shapes = [shape(BATCH, 5, 3), shape(3, 2), *([shape()] if op == "PadV2" else [])]
    return node, shapes, [None, integers(amounts), *([None] if op == "PadV2" else [])]


def concatenation(draw: random.Random, op: str) -> Case:
    count, axis = draw.randint(2, 3), draw.randint(-3, 2)
    node = new_node("it", op, T=DT_FLOAT, Tidx=DT_INT32)
    node.attr["N"].i = count
    parts: list[Shape | None] = []
    for _ in range(count):
        sizes: list[int | Size] = [BATCH, 3, 5]
        if draw.random() < 0.7:
            sizes[axis] = draw.randint(1, 4)
        parts.append(shape(*sizes))
    return node, [*parts, shape()], [*([None] * count), integers([axis])]


KINDS = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"), window),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), product),
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "All", "Any"), reduction),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), padding),
    "ConcatV2": concatenation,
}


def asked(node: Any, shapes: list[Shape | None], values: list[list[Size] | None]) -> Any:
    try:
        return ShapeFunctions(MODEL.ops, BATCH_SIZE).ask(node, shapes, values)
    except (UnprovedError, MustBeBatchError) as refused:
        return refused


@pytest.mark.parametrize("op", KINDS)
def test_a_rule_says_what_tensorflow_says_or_nothing(op: str) -> None:
    draw, answered = random.Random(op), 0
    for _ in range(40):
        node, shapes, values = KINDS[op](draw, op)
        names = [f"input_{position}" for position in range(len(shapes))]
        facts = TensorFacts(MODEL, BATCH_SIZE, {}, frozenset())
        facts.values.update({name: tuple(value) for name, value in zip(names, values, strict=True) if value})
        facts.values.update({name: () for name, value in zip(names, values, strict=True) if value == []})
        before = node.SerializeToString(deterministic=True)
        found = RULES[op](facts, Op(node, names, shapes))
        assert node.SerializeToString(deterministic=True) == before
        if found is None:
            continue
        answered += 1
        wanted = asked(node, shapes, values)
        assert isinstance(wanted, list), (node, shapes, wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one is not None and other is not None and len(one) == len(other), (node, shapes, found, wanted)
            assert all(a.same(b) for a, b in zip(one, other, strict=True) if a and b), (node, shapes, found, wanted)
    assert answered >= 8


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        ("MatMul", [shape(3, number(4, frozenset({("const", 0)}))), shape(4, 5)]),  # it may be the batch
        ("MatMul", [shape(3, BATCH), shape(BATCH, 5)]),
        ("MatMul", [None, shape(4, 5)]),
        ("Conv2D", [shape(BATCH, 8, 8, 3), None]),
        ("Conv2D", [shape(BATCH, number(8, frozenset({("const", 0)})), 8, 3), shape(1, 1, 3, 2)]),
    ],
)
def test_what_may_hold_the_batch_is_asked_for(op: str, shapes: list[Shape | None]) -> None:
    node = new_node("it", op, T=DT_FLOAT)
    node.attr["strides"].list.i.extend([1, 1, 1, 1])
    facts = TensorFacts(MODEL, BATCH_SIZE, {}, frozenset())
    assert RULES[op](facts, Op(node, ["a", "b"], shapes)) is None
