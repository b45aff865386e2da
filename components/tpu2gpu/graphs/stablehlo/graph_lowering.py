"""Lower the nodes of a flat graph that is read as a program; what no lowering knows stays as it is."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

from tpu2gpu.errors import UnsupportedError, foreign_errors
from tpu2gpu.graphs.calls import needed_functions
from tpu2gpu.graphs.edit import free_name, topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS
from tpu2gpu.graphs.shapes.inference import infer_tensors
from tpu2gpu.graphs.stablehlo.from_graph import IDLE, GraphReader
from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder
from tpu2gpu.graphs.stablehlo.lowering.lowering import CONTRADICTS, Lowering
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.values import Value, of_tensor
from tpu2gpu.tensorbundle import format

_SCOPE = "lowered/"


class GraphLowering:
    """The lowering of one flat graph, in place.

    Args:
        model: The model.

    Attributes:
        refused: What has no counterpart, by node.

    Raises:
        UnsupportedError: The graph's sizes contradict each other, or TensorFlow does not know its ops.
    """

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self.refused: list[str] = []
        self._reader = GraphReader(model.functions, model.ops)
        self._functions: dict[str, Any] = {}
        graph = GraphBuilder(_SCOPE, {*model.nodes, *model.functions}, model.ops)
        self._low = Lowering({}, graph, self._function_name, self._functions)
        with foreign_errors(UnsupportedError, "Xla ops in a graph whose shapes TensorFlow does not infer"):
            self._shapes = infer_tensors(model.graph_def())[0]

    def run(self) -> None:
        """Lower the graph; the model is changed, and holds what it no longer needs until it is pruned."""
        model, values = self._model, self._low.values
        roots = model.roots()
        for node in topological_order(model.nodes):
            found = None if node.name in roots or node.op in PLACEHOLDERS else self._lower(node)
            for place, value in enumerate(self._kept(node) if found is None else found):
                if value is not None:
                    values[join_tensor(node.name, place)] = value
        graph = self._low.graph
        kept = [node for node in model.nodes.values() if node.name in roots or self._is_kept(node)]
        new = {ref: graph.whole(values[ref]) for node in kept for ref in data_inputs(node) if ref in values}
        outputs = {ref: graph.whole(values[ref]) for ref in model.output_tensors() if ref in values}
        model.replace_all_uses({ref: to for ref, to in {**new, **outputs}.items() if ref != to})
        model.nodes.update(graph.nodes)
        model.functions.update({name: it for name, it in self._functions.items() if it is not None})

    def _is_kept(self, node: Any) -> bool:
        value = self._low.values.get(node.name)
        return value is None or value.ref == node.name

    def _lower(self, node: Any) -> list[Value] | None:
        """Lower a node; None where it stays."""
        values = self._low.values
        inputs = data_inputs(node)
        if any(ref not in values for ref in inputs) or len(inputs) < len(node.input):
            self._refuse(node, "takes what no tensor of numbers of a known rank is, or waits for other nodes")
            return None
        if node.op in IDLE:
            return [values[ref] for ref in inputs]
        if node.op == "Const" and (node.name in self._model.constants or not self._is_numeric(node)):
            return None
        try:
            with foreign_errors(UnsupportedError, CONTRADICTS):
                operation = self._reader.operation(node)
                if self._is_open(operation):
                    raise UnsupportedError("it may broadcast sizes that only a request tells")
                return self._low.counterpart(operation)
        except UnsupportedError as error:
            self._refuse(node, error.message)
            return None

    def _refuse(self, node: Any, why: str) -> None:
        called = needed_functions([node], self._model.functions).values()
        if node.op.startswith("Xla") or any(it.op.startswith("Xla") for function in called for it in function.node_def):
            self.refused.append(f"{node.name} ({node.op}): {why}")

    def _is_numeric(self, node: Any) -> bool:
        slots = self._model.ops.outputs(node) or ()
        return all(it.type_of(node) in format.DTYPE_NAMES and it.type_of(node) != format.DT_STRING for it in slots)

    def _is_open(self, operation: Operation) -> bool:
        """Tell whether an op may broadcast sizes that only a request tells."""
        if not operation.name.startswith("stablehlo.") or operation.regions:
            return False
        operands = [self._low.values[ref] for ref in operation.operands]
        rank = max((it.rank for it in operands), default=0)
        found = [{it.sizes[place] for it in operands if it.rank >= -place} for place in range(-rank, 0)]
        return any(sum(not isinstance(size, int) for size in sizes) > 1 for sizes in found)

    def _kept(self, node: Any) -> list[Value | None]:
        """Return the values of a node that stays; None for what is no tensor of numbers, or of unknown rank."""
        graph, found = self._low.graph, []
        for place, slot in enumerate(self._model.ops.outputs(node) or ()):
            ref, dtype = join_tensor(node.name, place), slot.type_of(node)
            shape = self._shapes.get(ref)
            value = None
            if dtype in format.DTYPE_NAMES and dtype != format.DT_STRING and shape is not None and not slot.is_ref:
                graph.dtypes[ref] = format.numpy_dtype(dtype)
                value = of_tensor(ref, graph.dtypes[ref], graph.sizes_of(ref, shape))
            found.append(value)
        return found

    def _function_name(self, wanted: str) -> str:
        name = free_name(ChainMap(self._functions, self._model.functions), f"lowered_{wanted}")
        self._functions[name] = None
        return name
