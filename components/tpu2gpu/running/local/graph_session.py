"""A signature as a graph in which every tensor can be fetched, and be replaced by a given value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tpu2gpu.errors import GraphError, foreign_errors
from tpu2gpu.graphs.formats.graph_def import build_graph_def
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.passes.base import Sequential
from tpu2gpu.graphs.passes.freezing.freeze_variables import FreezeVariables
from tpu2gpu.graphs.passes.precision.widen import Widen
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_model
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.reference_runner import narrow_types
from tpu2gpu.running.local.tensorflow_runner import as_array


class GraphSession:
    """A signature of a SavedModel, frozen and widened to float32, whose tensors go by the names in the source.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        trust: What it may do besides computing.

    Attributes:
        nodes: The NodeDefs by name.
        inputs: For each input its tensor, `name:0`.
        outputs: For each output its tensor.

    Raises:
        Tpu2GpuError: The graph cannot be read or frozen.
    """

    def __init__(self, source: str | os.PathLike[str], signature: str, *, trust: Sequence[str] = ()) -> None:
        import tensorflow as tf

        model = read_saved_model(source)
        model.keep_signatures([signature])
        require_trust(review_model(model), trust, source)
        Sequential([FreezeVariables(), Widen(narrow_types(model), keep_signature=True)]).run(model)
        definition = model.signatures[signature]
        self.functions = model.functions
        self.inputs = {name: info.name for name, info in definition.inputs.items()}
        self.outputs = {name: info.name for name, info in definition.outputs.items()}
        self._graph = tf.Graph()
        v1 = tf.compat.v1
        with foreign_errors(GraphError, f"{source}: TensorFlow does not import the frozen graph"):
            graph_def = build_graph_def(model)
            self.nodes = {node.name: node for node in graph_def.node}
            with self._graph.as_default():
                tf.graph_util.import_graph_def(graph_def, name="")
            options = v1.ConfigProto()
            options.graph_options.rewrite_options.disable_meta_optimizer = True  # every tensor stays what it is
            self._session = v1.Session(graph=self._graph, config=options)
            if model.init_node:
                assets = {f"{asset.node}:0": str(asset.path) for asset in model.assets}
                self._session.run(self._graph.get_operation_by_name(model.init_node), assets)

    def can_fetch(self, tensor: str) -> bool:
        """Tell whether a tensor can be fetched: it exists, and is not inside a loop of TensorFlow 1."""
        name, index = split_tensor(tensor)
        try:
            operation = self._graph.get_operation_by_name(name)
        except (KeyError, ValueError):
            return False
        inside = operation._get_control_flow_context() is not None
        return not inside and index < len(operation.outputs) and operation.outputs[index].dtype.is_numpy_compatible

    def node_outputs(self, node: str) -> list[str]:
        """Return the tensors that a node gives."""
        try:
            return [tensor.name for tensor in self._graph.get_operation_by_name(node).outputs]
        except (KeyError, ValueError):
            return []

    def dtype(self, tensor: str) -> Any:
        """Return the numpy type of a tensor."""
        return self._graph.get_tensor_by_name(tensor).dtype.as_numpy_dtype

    def run(
        self, fetches: Sequence[str], feeds: Mapping[str, Array], given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run the graph.

        Args:
            fetches: The tensors to return.
            feeds: The inputs, by their names in the signature.
            given: Values to put in the place of tensors.

        Raises:
            GraphError: TensorFlow does not run it.
        """
        values = {self.inputs[name]: array for name, array in feeds.items()}
        values.update({name: array.astype(self.dtype(name), copy=False) for name, array in (given or {}).items()})
        with foreign_errors(GraphError, "the source's graph does not run piece by piece"):
            found = self._session.run(list(fetches), values)
        return {name: as_array(array) for name, array in zip(fetches, found, strict=True)}

    def close(self) -> None:
        """Give its memory back."""
        self._session.close()
