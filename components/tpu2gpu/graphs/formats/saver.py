"""The save and restore ops around a graph's variables, and the collections that make loaders find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.graphs.model import Variable

_DT_STRING = 7
_FILENAME = "save/filename"
_SAVED = "save/control_dependency"
_RESTORE = "save/restore_all"


def add_saver(meta: Any, variables: Mapping[str, Variable]) -> None:
    """Add what TensorFlow's loaders use to restore variables by their names.

    Args:
        meta: A MetaGraphDef whose graph holds the variables' VarHandleOps.
        variables: The variables by the name of those nodes.
    """
    import numpy as np

    graph = meta.graph_def
    names = np.array(sorted(variables), dtype=object)
    _constant(graph, _FILENAME, np.array("model", dtype=object))
    _constant(graph, "save/tensor_names", names)
    _constant(graph, "save/shape_and_slices", np.array([""] * len(names), dtype=object))
    prefix = [_FILENAME, "save/tensor_names", "save/shape_and_slices"]
    save = _node(graph, "save/SaveV2", "SaveV2", [*prefix, *(f"save/value_{i}" for i in range(len(names)))])
    restore = _node(graph, "save/RestoreV2", "RestoreV2", prefix)
    all_restored = _node(graph, _RESTORE, "NoOp", [f"^save/assign_{i}" for i in range(len(names))])
    for position, name in enumerate(names):
        variable = variables[name]
        _add_variable(graph, variable, position)
        save.attr["dtypes"].list.type.append(variable.dtype)
        restore.attr["dtypes"].list.type.append(variable.dtype)
        _collect(meta, variable, position)
    _node(graph, _SAVED, "Identity", [_FILENAME, f"^{save.name}"]).attr["T"].type = _DT_STRING
    meta.saver_def.filename_tensor_name = f"{_FILENAME}:0"
    meta.saver_def.save_tensor_name = f"{_SAVED}:0"
    meta.saver_def.restore_op_name = all_restored.name
    meta.saver_def.max_to_keep = 5
    meta.saver_def.version = meta.saver_def.V2


def _add_variable(graph: Any, variable: Variable, position: int) -> None:
    read = _node(graph, f"save/value_{position}", "ReadVariableOp", [variable.node])
    read.attr["dtype"].type = variable.dtype
    restored = _node(graph, f"save/restored_{position}", "Identity", [_output("save/RestoreV2", position)])
    restored.attr["T"].type = variable.dtype
    assign = _node(graph, f"save/assign_{position}", "AssignVariableOp", [variable.node, restored.name])
    assign.attr["dtype"].type = variable.dtype


def _collect(meta: Any, variable: Variable, position: int) -> None:
    from tensorflow.core.framework import variable_pb2

    definition = variable_pb2.VariableDef(
        variable_name=f"{variable.node}:0",
        initial_value_name=f"save/restored_{position}:0",
        initializer_name=f"save/assign_{position}",
        snapshot_name=f"save/value_{position}:0",
        is_resource=True,
        trainable=variable.trainable,
    ).SerializeToString(deterministic=True)
    meta.collection_def["variables"].bytes_list.value.append(definition)
    if variable.trainable:
        meta.collection_def["trainable_variables"].bytes_list.value.append(definition)


def _output(node: str, index: int) -> str:
    return node if index == 0 else f"{node}:{index}"


def _node(graph: Any, name: str, op: str, inputs: list[str]) -> Any:
    node = graph.node.add(name=name, op=op)
    node.input.extend(inputs)
    return node


def _constant(graph: Any, name: str, value: Any) -> None:
    from tensorflow.python.framework import tensor_util

    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = _DT_STRING
    node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value))
