"""Assignment of nodes to parts: before, on or after the accelerator, with the most compute on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import ConversionError
from tpu2gpu.graphs.edit import ancestors, consumers, walk
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer, split_tensor
from tpu2gpu.graphs.ops import DT_STRING
from tpu2gpu.trt_converter.partition.costs import Costs
from tpu2gpu.trt_converter.partition.min_cut import INFINITE, Network
from tpu2gpu.trt_converter.partition.unsupported_ops import inseparable, unsupported_nodes

PARTS = ("pre", "core", "post")
PRE, CORE, POST = range(len(PARTS))
_SCALE = 1000  # of FLOPs, so that the number of tensors across a cut decides only between equals
_SHAPE_MATH = frozenset(["Shape", "Size", "Rank", "StridedSlice", "Pack", "ConcatV2", "Prod", "Range", "Cast", "Mul"])
_SHOWN = 5


@attrs.frozen
class Assignment:
    """The part of each node.

    Attributes:
        parts: For each node that depends on the input its part's index; the others stand wherever they are needed.
        unsupported: The nodes that the accelerator does not take, and why.
    """

    parts: dict[str, int]
    unsupported: dict[str, str]


class NothingToAccelerateError(ConversionError):
    """No node that computes is left for the accelerator."""


def assign(
    model: ServingModel,
    costs: Callable[[], Costs],
    *,
    for_engine: bool,
    refused: Mapping[str, str] | None = None,
    nms: str = "auto",
) -> Assignment | None:
    """Decide for every node where it runs; None where all of the model can run in one piece.

    Each node that the accelerator does not take goes before it, with all that it needs, or after it, with all that
    needs it. Of all such choices the one is taken that leaves the most FLOPs in the core: the minimum cut of a network
    of two nodes for each operation ("not before the core", "after the core") finds it.

    Args:
        model: A flat model with one signature; `name_outputs` has been called.
        costs: Tells what its nodes cost.
        for_engine: Whether an engine shall run the core, or ONNX Runtime.
        refused: Nodes that a conversion was refused for, and why.
        nms: Where non-max suppression shall run, as `--nms` says.

    Returns:
        Where each node runs. Where nothing that computes is left for ONNX Runtime, TensorFlow runs all of it, and the
        core hands its outputs on.

    Raises:
        NothingToAccelerateError: Nothing that computes would be left for the engine, or the outputs that the core would
            hand on are strings.
    """
    unsupported = {**unsupported_nodes(model, for_engine=for_engine, nms=nms), **(refused or {})}
    movable = _movable(model, unsupported)
    unsupported = {name: why for name, why in unsupported.items() if name in movable}
    if not unsupported:
        return None
    of_nodes = costs()
    parts = _min_cut(model, of_nodes, movable, unsupported)
    if not any(part == CORE and of_nodes.flops(model.nodes[name]) for name, part in parts.items()):
        handed_on = _handed_on(model)
        if for_engine or not handed_on:
            raise NothingToAccelerateError(
                "the model cannot be partitioned: nothing that computes is left for the accelerator",
                details=summary(model, unsupported),
                hint="convert with --backend onnx, or take what is listed out of the signature",
            )
        parts = dict.fromkeys(parts, PRE) | dict.fromkeys(handed_on & parts.keys(), CORE)
    return Assignment(parts, unsupported)


def _handed_on(model: ServingModel) -> set[str]:
    """Return the nodes that are outputs of the model and no strings."""
    nodes = [model.nodes[split_tensor(tensor)[0]] for tensor in model.output_tensors()]
    return {node.name for node in nodes if node.attr["T"].type != DT_STRING}


def summary(model: ServingModel, unsupported: Mapping[str, str]) -> list[str]:
    """Return `OP: reason: names` for each op and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in unsupported.items():
        groups.setdefault((model.nodes[name].op, why), []).append(name)
    return [
        f"{op}: {why}: {', '.join(sorted(names)[:_SHOWN])}{_more(len(names))}"
        for (op, why), names in sorted(groups.items())
    ]


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""


def _movable(model: ServingModel, unsupported: Iterable[str]) -> dict[str, int]:
    """Return the nodes that one part alone holds, numbered: those that depend on the input, and unsupported ones."""
    followers = consumers(model.nodes)
    inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}

    def onward(name: str) -> list[str]:
        return [node.name for node, _ in followers[name] if node.name not in inputs]

    shut = [name for name in unsupported if name not in inputs and not _makes_handle(model.nodes[name])]
    found = set(walk([*(each for name in inputs for each in onward(name)), *shut], onward))
    filling = initialising(model)
    return {name: number for number, name in enumerate(name for name in model.nodes if name in found - filling)}


def _makes_handle(node: Any) -> bool:
    """Tell whether a node only makes a handle, as tables do."""
    return "HashTable" in node.op or node.op == "VarHandleOp"


def initialising(model: ServingModel) -> set[str]:
    """Return the nodes that fill tables: they run once, in every part that has the table."""
    return ancestors(model.nodes, [model.init_node]) if model.init_node else set()


def _min_cut(
    model: ServingModel, costs: Costs, movable: Mapping[str, int], unsupported: Mapping[str, str]
) -> dict[str, int]:
    count = len(movable)
    source, sink = 2 * count, 2 * count + 1
    network = Network(2 * count + 2)
    for name, at in movable.items():  # `at`: not before the core; `count + at`: after it
        network.add(count + at, at, INFINITE)
        if name in unsupported:
            network.add(at, count + at, INFINITE)
            continue
        worth = _worth(model.nodes[name], costs)
        network.add(source, at, worth)
        network.add(count + at, sink, worth)
    together = inseparable(model)
    for name, at in movable.items():
        # What follows may not be before; the way back costs what one more tensor across a cut costs.
        ends = {producer(reference): reference for reference in reversed(data_inputs(model.nodes[name]))}
        for start, reference in ends.items():
            if start in movable:
                price = INFINITE if (start, name) in together else _price(model.nodes[start], reference, costs)
                for shift in (0, count):
                    network.add(movable[start] + shift, at + shift, INFINITE, price)
    high = network.cut(source, sink)
    return {name: (at in high) + (count + at in high) for name, at in movable.items()}


def _worth(node: Any, costs: Costs) -> int:
    """Return what it costs to leave a node out of the core; 0 for arithmetic on shapes, which is best left in place."""
    if node.op in _SHAPE_MATH and costs.elements(node.name) <= _SHOWN:
        return 0
    return max(1, costs.flops(node)) * _SCALE


def _price(node: Any, reference: str, costs: Costs) -> int:
    """Return what it costs to cut a tensor: more for shapes, which do not travel in batches."""
    shape = costs.shapes.get(reference)
    return 1 if shape is None or (shape and shape[0] is None) else 3
