"""The optimisers of tf2onnx: without the copy of the whole graph that it makes before each, and with one mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OptimiserFailedError(Exception):
    """An optimiser failed, and left a graph of which nothing is known."""


@contextmanager
def optimise_in_place() -> Iterator[None]:
    """Convert without copies, which take half of a conversion's time; tf2onnx goes back to them where one fails.

    Raises:
        OptimiserFailedError: One did: convert again without this.
    """
    from tf2onnx import optimizer

    original = optimizer.optimize_graph

    def optimise(graph: Any, catch_errors: bool = True, optimizers: Any = None) -> Any:
        try:
            return original(graph, False, optimizers)
        except Exception as error:
            if not catch_errors:
                raise
            raise OptimiserFailedError from error

    optimizer.optimize_graph = optimise
    try:
        yield
    finally:
        optimizer.optimize_graph = original


def mend_transposes() -> None:
    """Let transposes pass what adds a number behind a convolution.

    tf2onnx takes the number for a bias, and gives all transposes up where its shape is none.
    """
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    original = TransposeOptimizer._add_handler
    if getattr(original, "mended", False):
        return

    def add(self: Any, trans: Any, node: Any) -> bool:
        added = node.inputs[1]
        if added is not None and added.is_const() and added.get_tensor_value(as_list=False).ndim == 0:
            return bool(self._handle_node_having_branches(trans, node))
        return bool(original(self, trans, node))

    add.mended = True  # type: ignore[attr-defined]
    TransposeOptimizer._add_handler = add
