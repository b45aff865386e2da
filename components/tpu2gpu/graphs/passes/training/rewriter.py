"""A model under a pass: its tensors are replaced one by one, and seen so, until all consumers are changed at once."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import Consumers, const_value, resolve
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import PASSTHROUGH, REF_VARIABLES
from tpu2gpu.graphs.signatures import full_name, map_tensors

Array = np.ndarray[Any, Any]

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Div": np.divide,
}


class Rewriter:
    """The nodes of a model, and what their tensors have been replaced by.

    As a context manager: where the block ends well, nodes and signatures take the new tensors.

    Args:
        model: The model, changed in place.

    Attributes:
        model: The model.
        nodes: Its NodeDefs by name.
    """

    def __init__(self, model: ServingModel) -> None:
        self.model = model
        self.nodes = model.nodes
        self._replaced: dict[str, str] = {}

    def __enter__(self) -> Rewriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._replaced:
            self._apply()

    def _apply(self) -> None:
        for node in self.nodes.values():
            for position, reference in enumerate(node.input[:]):
                if reference in self._replaced:
                    node.input[position] = resolve(self._replaced, reference)
        for signature in self.model.signatures.values():
            for info in signature.outputs.values():
                map_tensors(info, lambda name: full_name(self.current(name)))

    def replace(self, tensor: str, by: str) -> None:
        """Make all consumers of a tensor take another."""
        tensor, by = join_tensor(*split_tensor(tensor)), join_tensor(*split_tensor(by))
        if tensor != by:
            self._replaced[tensor] = by

    def current(self, tensor: str) -> str:
        """Return what the consumers of a tensor take now: itself, or what it was replaced by."""
        return resolve(self._replaced, join_tensor(*split_tensor(tensor)))

    def outputs(self) -> list[str]:
        """Return the tensors that signatures return."""
        return sorted({self.current(tensor) for tensor in self.model.output_tensors()})

    def input_nodes(self) -> set[str]:
        """Return the nodes of the tensors that signatures take."""
        return {split_tensor(tensor)[0] for tensor in self.model.input_tensors()}

    def resolve(self, reference: str) -> tuple[Any, int]:
        """Return the node that makes a tensor, and which of its outputs it is.

        Raises:
            GraphError: There is no such node.
        """
        name, index = split_tensor(resolve(self._replaced, reference))
        if name not in self.nodes:
            raise GraphError(f"the graph has no node {name}")
        return self.nodes[name], index

    def node(self, reference: str) -> Any:
        """Return the node that makes a tensor."""
        return self.resolve(reference)[0]

    def inputs(self, node: Any) -> list[str]:
        """Return a node's data inputs."""
        return [resolve(self._replaced, reference) for reference in data_inputs(node)]

    def skip_passthrough(self, reference: str, ops: Container[str] = PASSTHROUGH) -> tuple[Any, int]:
        """Return the node that makes a tensor, looked up through ops that pass their first input on."""
        node, index = self.resolve(reference)
        while node.op in ops and data_inputs(node):
            node, index = self.resolve(data_inputs(node)[0])
        return node, index

    def variable(self, reference: str) -> str:
        """Return the node of the variable that a tensor is read from, or nothing."""
        node, _ = self.skip_passthrough(reference, {*PASSTHROUGH, "ReadVariableOp", "Cast"})
        return str(node.name) if node.op in ("VarHandleOp", *REF_VARIABLES) else ""

    def constant(self, reference: str, depth: int = 12) -> Array | None:
        """Return a tensor's value where constants alone make it, by simple arithmetic; None elsewhere."""
        node, _ = self.skip_passthrough(reference)
        if node.op == "Const":
            return const_value(node)
        if depth == 0 or node.op not in {*_ARITHMETIC, "Cast", "Reciprocal", "Inv"}:
            return None
        values = [self.constant(each, depth - 1) for each in data_inputs(node)]
        numbers = [value.astype(np.float64) for value in values if value is not None and value.dtype != object]
        if len(numbers) < len(values):
            return None
        if node.op in _ARITHMETIC:
            return np.asarray(_ARITHMETIC[node.op](*numbers))
        return numbers[0] if node.op == "Cast" else np.asarray(1 / numbers[0])

    def consumers(self) -> Consumers:
        """Return for each node the nodes that take its outputs, and as which of their inputs."""
        found: Consumers = {}
        for node in self.nodes.values():
            for position, reference in enumerate(self.inputs(node)):
                found.setdefault(split_tensor(reference)[0], []).append((node, position))
        return found

    def ancestors(self, tensors: Iterable[str]) -> Iterator[Any]:
        """Visit the nodes that tensors need by data, nearest first."""
        seen: set[str] = set()
        waiting = list(tensors)
        for reference in waiting:
            node = self.node(reference)
            if node.name not in seen:
                seen.add(node.name)
                yield node
                waiting += data_inputs(node)
