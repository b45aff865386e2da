"""The coverage of a graph by TF-TRT's engines, and why the rest is left to TensorFlow."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.partition.costs import Costs

ENGINE_OP = "TRTEngineOp"
_LEFT_OUT_ROWS = 20
_NO_WORK = frozenset(["Const", "Placeholder", "NoOp", "Identity", "IdentityN"])  # they hold or pass on what others make
_REFUSAL = re.compile(
    r"Not a TF-TRT candidate, \(Op type: .*?\), \(Op name: (?P<node>.*?)\), \(Reason: (?P<reason>.*)\)"
)


@attrs.frozen
class Engine:
    """An engine, and what it holds.

    Attributes:
        name: The node that runs it.
        operations: How many operations.
        flops: Floating-point operations of one example.
        ops: The kinds of operations, and how many of each.
    """

    name: str
    operations: int
    flops: int
    ops: dict[str, int]


@attrs.frozen
class LeftOut:
    """Operations of one kind that stay in TensorFlow for one reason.

    Attributes:
        op: The kind.
        nodes: Their names.
        flops: Floating-point operations of one example.
        reason: Why, in TF-TRT's words where it refused them.
    """

    op: str
    nodes: tuple[str, ...]
    flops: int
    reason: str


@attrs.frozen
class EngineCoverage:
    """The share of a graph that runs in engines. Constants, inputs and what only passes values on are not counted.

    Attributes:
        engines: The engines, the one that computes most first.
        left_out: What stays in TensorFlow, the kind that computes most first.
    """

    engines: tuple[Engine, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def operations(self) -> int:
        """The number of operations in the graph."""
        return self.operations_in_engines + sum(len(each.nodes) for each in self.left_out)

    @property
    def operations_in_engines(self) -> int:
        """The number of operations that run in engines."""
        return sum(engine.operations for engine in self.engines)

    @property
    def share_of_compute(self) -> float:
        """The engines' share of the floating-point operations, 0 to 1."""
        inside = sum(engine.flops for engine in self.engines)
        return inside / max(1, inside + sum(each.flops for each in self.left_out))

    def to_json(self) -> dict[str, Any]:
        """Return the coverage as plain data."""
        totals = ("operations", "operations_in_engines", "share_of_compute")
        return {**{name: getattr(self, name) for name in totals}, **attrs.asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineCoverage:
        """Read `to_json`'s form back."""
        left_out = (LeftOut(**{**each, "nodes": tuple(each["nodes"])}) for each in data["left_out"])
        return cls(tuple(Engine(**each) for each in data["engines"]), tuple(left_out))


def coverage_of(converted: Any, given: Any, costs: Costs, log: str, minimum_segment_size: int) -> EngineCoverage:
    """Count what TF-TRT's segmenter did.

    Args:
        converted: The GraphDef that it made: engines are nodes, and what each replaces is a function.
        given: The GraphDef that it was given; what it added itself costs nothing.
        costs: The costs of that.
        log: What it printed, its report of operations that it does not convert among it.
        minimum_segment_size: How few operations it makes an engine of.
    """
    bodies = {function.signature.name: function for function in converted.library.function}
    flops = {node.name: costs.flops(node) for node in given.node if node.name in costs.shapes}
    engines = []
    for node in (each for each in converted.node if each.op == ENGINE_OP):
        inside = list(_working(bodies[node.attr["segment_func"].func.name].node_def))
        ops = Counter(each.op for each in inside)
        engines.append(Engine(node.name, len(inside), _sum(inside, flops), dict(sorted(ops.items()))))
    refused = read_reasons(log)
    alone = f"TF-TRT takes it, but made no engine of {minimum_segment_size} operations or more around it"
    others: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for node in _working(converted.node):
        others[node.op, refused.get(node.name, alone)].append(node)
    left_out = [
        LeftOut(op, tuple(sorted(node.name for node in nodes)), _sum(nodes, flops), reason)
        for (op, reason), nodes in others.items()
    ]
    return EngineCoverage(
        tuple(sorted(engines, key=lambda engine: (-engine.flops, engine.name))),
        tuple(sorted(left_out, key=lambda each: (-each.flops, each.op, each.reason))),
    )


def describe(coverage: EngineCoverage) -> list[str]:
    """Describe the coverage for a reader."""
    several = "" if len(coverage.engines) == 1 else "s"
    inside = f"{coverage.operations_in_engines} of {coverage.operations} operations"
    lines = [
        f"{inside} in {len(coverage.engines)} engine{several}, {100 * coverage.share_of_compute:.1f} % of the compute"
    ]
    for engine in coverage.engines:
        ops = ", ".join(f"{count} {op}" for op, count in engine.ops.items())
        lines.append(f"  {engine.name}: {engine.operations} operations, {engine.flops:,} FLOPs for one example ({ops})")
    if coverage.left_out:
        lines.append("left to TensorFlow")
    shown, rest = coverage.left_out[:_LEFT_OUT_ROWS], len(coverage.left_out) - _LEFT_OUT_ROWS
    lines += [f"  {len(each.nodes)} {each.op}, {each.flops:,} FLOPs: {each.reason}" for each in shown]
    return [*lines, *([f"  and {rest} more kinds"] if rest > 0 else [])]


def read_reasons(log: str) -> dict[str, str]:
    """Read the reason for each node that TF-TRT refuses from what it prints of them."""
    return {match["node"]: match["reason"].rstrip(". ") for match in _REFUSAL.finditer(log)}


def _working(nodes: Iterable[Any]) -> Iterator[Any]:
    return (node for node in nodes if node.op not in _NO_WORK and node.op != ENGINE_OP)


def _sum(nodes: Sequence[Any], flops: Mapping[str, int]) -> int:
    return sum(flops.get(node.name, 0) for node in nodes)
