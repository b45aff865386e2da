"""Rules for ops that take shapes apart: their results are sizes, which may hold the batch."""

from __future__ import annotations

from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.shapes.rules import Op, TensorFacts, rule
from tpu2gpu.graphs.shapes.symbolic import Shape, Size, number


@rule("Unpack")
def _unpack(facts: TensorFacts, op: Op) -> None:
    values = facts.values.get(op.inputs[0])
    if values and len(op.shapes[0] or ()) == 1:
        facts.values.update({join_tensor(op.node.name, index): (value,) for index, value in enumerate(values)})


@rule("Split", "SplitV")
def _split(facts: TensorFacts, op: Op) -> None:
    source = 1 if op.node.op == "Split" else 0
    values, parts = facts.values.get(op.inputs[source]), op.node.attr["num_split"].i
    lengths = [len(values or ()) // parts] * parts
    if op.node.op == "SplitV":
        lengths = [facts.at(size) for size in facts.values.get(op.inputs[1], ())]
    if values and len(op.shapes[source] or ()) == 1 and sum(lengths) == len(values) and min(lengths, default=-1) >= 0:
        start = 0
        for index, length in enumerate(lengths):
            facts.values[join_tensor(op.node.name, index)] = values[start : start + length]
            start += length


@rule("Size")
def _size(facts: TensorFacts, op: Op) -> list[Shape | None]:
    total: Size | None = number(1)
    for size in op.shapes[0] if op.shapes[0] is not None else (None,):
        total = None if total is None or size is None else facts.combine("Mul", total, size)
    if total is not None:
        facts.values[op.node.name] = (total,)
    return [()]


@rule("Rank")
def _rank(facts: TensorFacts, op: Op) -> list[Shape | None]:
    if op.shapes[0] is not None:
        facts.values[op.node.name] = (number(len(op.shapes[0])),)
    return [()]


@rule("ShapeN")
def _shape_n(facts: TensorFacts, op: Op) -> list[Shape | None]:
    for index, shape in enumerate(op.shapes):
        if shape is not None and all(size is not None for size in shape):
            facts.values[join_tensor(op.node.name, index)] = tuple(size for size in shape if size is not None)
    return [None if shape is None else (number(len(shape)),) for shape in op.shapes]
