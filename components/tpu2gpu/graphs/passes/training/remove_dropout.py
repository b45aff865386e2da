"""Remove dropout in all the forms that TensorFlow has produced: the mask, and the scale that makes up for it.

    TF 1.0-1.12      x / keep * floor(random + keep)
    TF 1.13-1.15     x * (1 / (1 - rate)) * cast(random >= rate)       both products must go
    TF 2             select(random >= rate, x / (1 - rate), 0), with stateful and stateless random numbers
Stochastic depth, written as the first form with one random number for each example, goes the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import Consumers
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.graphs.ops import ADDS, COMPARISONS, DIVISIONS, PASSTHROUGH, RANDOM
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.fold_training_phase import training_phases
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

_MASKS = ("Floor", "Cast", *COMPARISONS, "LogicalNot")
_PRODUCTS = ("Mul", *DIVISIONS)
# bfloat16 keeps 8 bits of a rate and of its scale.
_ROUNDING = 0.02


class RemoveDropout(Pass):
    """Remove every dropout on the way to the outputs; the change is `dropouts`, their last nodes.

    What lies behind the outputs is not looked at: gradients have masks too.
    """

    PHRASES: ClassVar = {"dropouts": "removes {} dropouts"}

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List placeholders that still tell training from inference: masks hang on them."""
        graph = Rewriter(model)
        alive = {node.name for node in graph.ancestors(graph.outputs())}
        return [f"{name}: not folded" for name in training_phases(model) if name in alive]

    def run(self, model: ServingModel) -> Changes:
        """Make consumers of a dropout take its input.

        Raises:
            GraphError: A random mask has no scale, or one that does not make up for it; all are listed.
        """
        with Rewriter(model) as graph:
            removed = _bypass(graph)
        return {"dropouts": removed} if removed else {}


def _bypass(graph: Rewriter) -> list[str]:
    odd, removed = [], []
    consumers: Consumers = {}
    for node in list(graph.ancestors(graph.outputs())):
        split = _mask_and_value(graph, node)
        if split is None:
            continue
        mask, value = split
        keep = _keep_probability(graph, mask)
        source, scale = _unscale(graph, value)
        end = node.name
        if scale is None:  # the scale may come after the mask
            consumers = consumers or graph.consumers()
            for consumer, _ in consumers.get(node.name, ()):
                after, scale_after = _unscale(graph, consumer.name) if consumer.op in _PRODUCTS else ("", None)
                if scale_after is not None and graph.node(after).name == node.name:
                    end, scale = consumer.name, scale_after
        if scale is None and keep not in (None, 1.0):
            odd.append(f"{node.name}: the mask keeps {keep:g} of the values, and nothing scales them")
        elif scale is not None and keep is not None and abs(scale * keep - 1) > _ROUNDING:
            odd.append(f"{node.name}: the mask keeps {keep:g} of the values, and they are scaled by {scale:g}")
        else:
            graph.replace(end, source)
            removed.append(node.name)
    if odd:
        raise GraphError(
            "random masks that are no dropout", details=odd, hint="give the output of a network built for inference"
        )
    return removed


def _mask_and_value(graph: Rewriter, node: Any) -> tuple[str, str] | None:
    """Return the mask of a dropout's last op and what it is laid on, None for any other node."""
    if node.op == "Mul":
        first, second = graph.inputs(node)
        for mask, value in ((second, first), (first, second)):
            if graph.skip_passthrough(mask)[0].op in ("Floor", "Cast", *COMPARISONS) and _is_random(graph, mask):
                return mask, value
    if node.op in ("Select", "SelectV2"):
        condition, value, other = graph.inputs(node)
        if (
            graph.skip_passthrough(condition)[0].op in _MASKS
            and _is_random(graph, condition)
            and _is_zero(graph, other)
        ):
            return condition, value
    return None


def _is_random(graph: Rewriter, mask: str) -> bool:
    """Tell whether random numbers reach a mask by the arithmetic that dropout uses."""
    between = {*PASSTHROUGH, *_MASKS, *ADDS, "Sub", "Mul"}
    waiting, seen = [mask], set()
    while waiting:
        node = graph.node(waiting.pop())
        if RANDOM.fullmatch(node.op):
            return True
        if node.name not in seen and node.op in between:
            seen.add(node.name)
            waiting += data_inputs(node)
    return False


def _is_zero(graph: Rewriter, reference: str) -> bool:
    node, _ = graph.skip_passthrough(reference, {*PASSTHROUGH, "Cast"})
    if node.op == "ZerosLike":
        return True
    if node.op in ("Fill", "BroadcastTo"):
        return _is_zero(graph, data_inputs(node)[1 if node.op == "Fill" else 0])
    value = graph.constant(reference)
    return value is not None and not value.any()


def _keep_probability(graph: Rewriter, mask: str) -> float | None:
    """Return the share of values that a mask keeps, None where constants do not tell."""
    node, _ = graph.skip_passthrough(mask, {*PASSTHROUGH, "Cast"})
    if node.op == "LogicalNot":
        kept = _keep_probability(graph, data_inputs(node)[0])
        return None if kept is None else 1 - kept
    if node.op == "Floor":
        inner, _ = graph.skip_passthrough(data_inputs(node)[0])
        if inner.op not in ADDS:
            return None
        values = [graph.constant(each) for each in data_inputs(inner)]
        return next((float(value) for value in values if value is not None and value.size == 1), None)
    if node.op not in COMPARISONS:
        return None
    random_first = _is_random(graph, data_inputs(node)[0])
    bound = graph.constant(data_inputs(node)[1 if random_first else 0])
    if bound is None or bound.size != 1:
        return None
    kept_above = (node.op in ("GreaterEqual", "Greater")) == random_first
    return 1 - float(bound.item()) if kept_above else float(bound.item())


def _unscale(graph: Rewriter, reference: str) -> tuple[str, float | None]:
    """Return what a tensor is before it is multiplied by a constant scalar, and that scalar; None for none."""
    node, _ = graph.skip_passthrough(reference)
    if node.op not in _PRODUCTS:
        return reference, None
    inputs = graph.inputs(node)
    for value, factor in ((inputs[0], inputs[1]), (inputs[1], inputs[0]))[: 2 if node.op == "Mul" else 1]:
        constant = graph.constant(factor)
        if constant is not None and constant.size == 1 and graph.constant(value) is None:
            number = float(constant.item())
            return value, (number if node.op == "Mul" else (1 / number if number else None))
    return reference, None
