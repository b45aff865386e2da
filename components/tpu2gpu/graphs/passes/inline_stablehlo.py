"""Turn StableHLO modules, as JAX exports them in `XlaCallModule`, into nodes that every step knows."""

from __future__ import annotations

from typing import Any, ClassVar

from tpu2gpu.errors import Tpu2GpuError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE, read_head

HINT = (
    "export with a fixed batch, or without what is named; where you have the function, jax2onnx exports it without "
    "TensorFlow; --keep-stablehlo leaves the module whole, for TensorFlow alone"
)


class InlineStableHlo(Pass):
    """Put TensorFlow's nodes in the place of StableHLO modules."""

    PHRASES: ClassVar = {"stablehlo": "turns {} StableHLO modules into nodes"}

    def run(self, model: ServingModel) -> Changes:
        """Lower every module of the flat graph.

        Returns:
            `stablehlo`: for each module its op, versions and platforms, and how many nodes it became.

        Raises:
            UnsupportedError: A module holds what has no counterpart; each is named.
        """
        modules = [node for node in model.nodes.values() if node.op == XLA_CALL_MODULE]
        if not modules:
            return {}
        from tpu2gpu.graphs.stablehlo.deserializing import deserialize
        from tpu2gpu.graphs.stablehlo.lower_module import check_callbacks

        check_callbacks(modules)
        heads = [read_head(node) for node in modules]
        texts = deserialize([node.attr["module"].s for node in modules], heads)
        done, refused = [], []
        for node, head, text in zip(modules, heads, texts, strict=True):
            try:
                done.append(self._put_in_place(model, node, text) | {"module": str(head)})
            except Tpu2GpuError as error:
                refused.append(f"{head}: {error.message}")
        if refused:
            raise UnsupportedError("StableHLO that has no counterpart", details=refused, hint=HINT)
        model.prune()
        return {"stablehlo": done}

    def _put_in_place(self, model: ServingModel, node: Any, text: str) -> dict[str, Any]:
        from tpu2gpu.graphs.stablehlo.lower_module import lower_module
        from tpu2gpu.graphs.stablehlo.lowering.lowering import CONTRADICTS

        with foreign_errors(UnsupportedError, CONTRADICTS):
            lowered = lower_module(model, node, text)
        model.nodes.update(lowered.nodes)
        model.functions.update(lowered.functions)
        model.replace_all_uses({join_tensor(node.name, place): ref for place, ref in enumerate(lowered.outputs)})
        return {"node": node.name, "nodes": len(lowered.nodes), "platform": lowered.platform}
