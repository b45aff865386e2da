"""Compute once, while freezing, what depends on constants alone; TensorFlow's own kernels do it, so bits stay."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.graphs.constants import constant_value, depends_on_inputs, put_constant
from tpu2gpu.graphs.describing import size_bytes
from tpu2gpu.graphs.edit import consumers, topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import V1_CONTROL_FLOW
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.tensorbundle import format

# Results above this size are kept only where they are no larger than what they were made of.
_FREE_BYTES = 1 << 16


class FoldConstants(Pass):
    """Replace what depends on constants alone by its value; variables count as inputs.

    Each op runs by itself, without TensorFlow's graph optimisers, and so as the model would run it. Ops with state, ops
    that no TensorFlow here knows, results that are larger than their sources, and graphs with loops and branches of
    TensorFlow 1 stay. The change is `fold_constants`: how many `nodes` became `constants`, and by how many bytes that
    changes the model (`grown_bytes`).
    """

    def run(self, model: ServingModel) -> Changes:
        """Run the constant part of a model, and keep its results."""
        if any(node.op in V1_CONTROL_FLOW for node in model.nodes.values()):
            return {"fold_constants": {"nodes": 0, "constants": 0, "grown_bytes": 0}}
        folder = _Folder(model)
        tensors = folder.frontier()
        before, nodes = folder.constant_bytes(), len(model.nodes)
        known: dict[Any, str] = {}
        replaced = {
            tensor: put_constant(model, f"{split_tensor(tensor)[0]}/folded", value, known)
            for tensor, value in folder.run(tensors).items()
        }
        model.replace_all_uses(replaced)
        model.prune()
        folded = {
            "nodes": nodes + len(replaced) - len(model.nodes),
            "constants": len(replaced),
            "grown_bytes": _Folder(model).constant_bytes() - before,
        }
        return {"fold_constants": folded}

    def summary(self, changes: Changes) -> list[str]:
        """Tell how many nodes are computed already."""
        return [f"computes {changes['fold_constants']['nodes']} nodes beforehand"]


class _Folder:
    """The constant part of a model, which can be run."""

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self._nodes = model.nodes
        self._consumers = consumers(model.nodes)
        ordered = topological_order(model.nodes)
        dynamic = depends_on_inputs(ordered)
        roots = model.roots()
        self._static: list[Any] = []
        static: set[str] = set()
        for node in ordered:
            sources = [producer(reference) for reference in data_inputs(node)]
            if node.op == "Const":
                static.add(node.name)
            elif (
                node.name not in dynamic | roots
                and sources
                and all(source in static for source in sources)
                and not any(is_control(reference) for reference in node.input)
                and self._can_run(node)
            ):
                static.add(node.name)
                self._static.append(node)
        self._names = {node.name for node in self._static}

    def constant_bytes(self) -> int:
        """Return the bytes of all constants."""
        inline = sum(
            int(node.attr["value"].tensor.ByteSize())
            for name, node in self._nodes.items()
            if node.op == "Const" and name not in self._model.constants
        )
        return inline + sum(size_bytes(variable) for variable in self._model.constants.values())

    def frontier(self) -> list[str]:
        """Return the constant tensors that ops which are not constant take."""
        found: dict[str, None] = {}
        for node in self._static:
            for consumer, position in self._consumers[node.name]:
                if consumer.name not in self._names:
                    found[join_tensor(*split_tensor(data_inputs(consumer)[position]))] = None
        return list(found)

    def run(self, tensors: list[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the values of tensors, but for those that would make the model larger."""
        values: dict[str, np.ndarray[Any, Any]] = {}
        with _Session(self._model, self._static) as session:
            for tensor in tensors:
                part = self._behind(split_tensor(tensor)[0])
                inner = {node.name for node in part}
                sources = sorted({producer(it) for node in part for it in data_inputs(node)} - inner)
                given = {name: constant_value(self._model, name) for name in sources}
                value = session.run(tensor, given)
                if value.nbytes <= max(_FREE_BYTES, sum(it.nbytes for it in given.values())):
                    values[tensor] = value
        return values

    def _behind(self, name: str) -> list[Any]:
        """Return the nodes that a constant result needs, producers first."""
        needed, stack = set(), [name]
        while stack:
            name = stack.pop()
            if name in self._names and name not in needed:
                needed.add(name)
                stack.extend(producer(reference) for reference in data_inputs(self._nodes[name]))
        return [node for node in self._static if node.name in needed]

    def _can_run(self, node: Any) -> bool:
        from tensorflow.python.framework import op_def_registry

        definition = op_def_registry.get(node.op)
        slots = self._model.ops.outputs(node)
        if definition is None or definition.is_stateful or not slots or node.op in self._model.functions:
            return False
        if any(value.WhichOneof("value") == "func" or value.list.func for value in node.attr.values()):
            return False
        return all(slot.type_of(node) in format.DTYPE_NAMES for slot in slots)


class _Session:
    """A session that runs nodes on the CPU as they are; constants are fed, so that they may have any size."""

    def __init__(self, model: ServingModel, nodes: list[Any]) -> None:
        import tensorflow as tf

        v1 = tf.compat.v1
        graph_def = v1.GraphDef(node=nodes, versions=model.versions)
        inner = {node.name for node in nodes}
        sources = sorted({producer(it) for node in nodes for it in data_inputs(node)} - inner)
        config = v1.ConfigProto(device_count={"GPU": 0})
        config.graph_options.optimizer_options.opt_level = v1.OptimizerOptions.L0
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._fed = {name: v1.placeholder(model.nodes[name].attr["dtype"].type) for name in sources}
            tf.import_graph_def(graph_def, {f"{name}:0": it for name, it in self._fed.items()}, name="fold")
        self._session = v1.Session(graph=self._graph, config=config)

    def run(self, tensor: str, given: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        name, index = split_tensor(tensor)
        feeds = {self._fed[source]: value for source, value in given.items()}
        return np.asarray(self._session.run(self._graph.get_tensor_by_name(f"fold/{name}:{index}"), feeds))

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
