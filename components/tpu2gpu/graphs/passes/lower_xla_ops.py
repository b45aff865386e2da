"""Turn `Xla*` ops, as older JAX exports hold them, into the ops that every step knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.edit import restate
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE

_PLACEMENTS = frozenset({"XlaSharding", "XlaSpmdFullToShardShape", "XlaSpmdShardToFullShape"})
"""Ops that tell the cores of a TPU apart, and compute nothing where there is one device."""


class LowerXlaOps(Pass):
    """Put TensorFlow's nodes in the place of `Xla*` ops, and recognise what stands around them."""

    PHRASES: ClassVar = {"xla_ops": "turns {} Xla ops into TensorFlow's"}

    def run(self, model: ServingModel) -> Changes:
        """Lower a graph that holds `Xla*` ops; any other one stays as it is.

        Returns:
            `xla_ops`: how many there were of each.

        Raises:
            UnsupportedError: Some have no counterpart; each is named.
        """
        before = count_xla_ops(model)
        if not before:
            return {}
        for node in _all_nodes(model):
            if node.op in _PLACEMENTS:
                restate(node, "Identity", T=node.attr["T"].type)
        if not count_xla_ops(model):
            return {"xla_ops": before}
        from tpu2gpu.graphs.stablehlo.graph_lowering import GraphLowering

        lowering = GraphLowering(model)
        lowering.run()
        model.prune()
        left = [f"{count} {op}" for op, count in count_xla_ops(model).items()]
        if refused := [*lowering.refused, *(it for it in left if not lowering.refused)]:
            raise UnsupportedError(
                "Xla ops that have no counterpart",
                details=refused,
                hint="export with jax2tf's default, native_serialization=True, or without what is named; "
                "--keep-stablehlo leaves the ops, for TensorFlow alone",
            )
        return {"xla_ops": before}


def count_xla_ops(model: ServingModel) -> dict[str, int]:
    """Count the `Xla*` ops of a model, in its flat graph and in the functions that it calls."""
    found: dict[str, int] = {}
    for node in _all_nodes(model):
        if node.op.startswith("Xla") and node.op != XLA_CALL_MODULE:
            found[node.op] = found.get(node.op, 0) + 1
    return dict(sorted(found.items()))


def _all_nodes(model: ServingModel) -> Iterable[Any]:
    inner = (node for function in model.functions.values() for node in function.node_def)
    return [*model.nodes.values(), *inner]
