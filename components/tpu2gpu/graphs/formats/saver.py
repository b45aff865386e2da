"""The save and restore ops around a graph's variables, and the collections that make loaders find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.edit import const_node, new_node
from tpu2gpu.graphs.model import Variable
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.ops import DT_STRING, REF_VARIABLES

OURS = "tpu2gpu_restore"  # the scope of what is added to a graph that lacks it
_FILENAME = "save/filename"
_SAVED = "save/control_dependency"
_RESTORE = "save/restore_all"


def add_saver(meta: Any, variables: Mapping[str, Variable]) -> None:
    """Add what TensorFlow's loaders use to restore variables by their names.

    Args:
        meta: A MetaGraphDef whose graph holds the variables' VarHandleOps.
        variables: The variables by the name of those nodes.
    """
    graph = meta.graph_def
    names = sorted(variables)
    graph.node.append(const_node(_FILENAME, "model"))
    graph.node.append(const_node("save/tensor_names", names))
    graph.node.append(const_node("save/shape_and_slices", [""] * len(names)))
    prefix = [_FILENAME, "save/tensor_names", "save/shape_and_slices"]
    save = _add(graph, "save/SaveV2", "SaveV2", [*prefix, *(f"save/value_{i}" for i in range(len(names)))])
    restore = _add(graph, "save/RestoreV2", "RestoreV2", prefix)
    all_restored = _add(graph, _RESTORE, "NoOp", [f"^save/assign_{i}" for i in range(len(names))])
    for position, name in enumerate(names):
        variable = variables[name]
        _add_variable(graph, variable, position)
        save.attr["dtypes"].list.type.append(variable.dtype)
        restore.attr["dtypes"].list.type.append(variable.dtype)
        _collect(meta, variable, position)
    _add(graph, _SAVED, "Identity", [_FILENAME, f"^{save.name}"], T=DT_STRING)
    meta.saver_def.filename_tensor_name = f"{_FILENAME}:0"
    meta.saver_def.save_tensor_name = f"{_SAVED}:0"
    meta.saver_def.restore_op_name = all_restored.name
    meta.saver_def.max_to_keep = 5
    meta.saver_def.version = meta.saver_def.V2


def add_restore_op(graph: Any) -> str:
    """Give a GraphDef the restore op that it lacks, each variable under its name.

    Returns:
        The name of the op; nothing for a graph without variables.
    """
    variables = [node for node in graph.node if node.op in (*REF_VARIABLES, "VarHandleOp")]
    if not variables:
        return ""
    keys = [node.attr["shared_name"].s.decode(errors="backslashreplace") or node.name for node in variables]
    names, slices = f"{OURS}/names", f"{OURS}/slices"
    graph.node.append(const_node(names, keys))
    graph.node.append(const_node(slices, [""] * len(keys)))
    restore = _add(graph, f"{OURS}/restore", "RestoreV2", [names, names, slices])
    restored = _add(graph, f"{OURS}/all", "NoOp")
    for position, variable in enumerate(variables):
        op = "AssignVariableOp" if variable.op == "VarHandleOp" else "Assign"
        inputs = [variable.name, join_tensor(restore.name, position)]
        assign = _add(graph, f"{OURS}/assign_{position}", op, inputs)
        restore.attr["dtypes"].list.type.append(variable.attr["dtype"].type)
        restored.input.append(f"^{assign.name}")
    return str(restored.name)


def _add(graph: Any, name: str, op: str, inputs: Iterable[str] = (), **types: int) -> Any:
    graph.node.append(new_node(name, op, inputs, **types))
    return graph.node[-1]


def _add_variable(graph: Any, variable: Variable, position: int) -> None:
    dtype, restored = variable.dtype, f"save/restored_{position}"
    _add(graph, f"save/value_{position}", "ReadVariableOp", [variable.node], dtype=dtype)
    _add(graph, restored, "Identity", [join_tensor("save/RestoreV2", position)], T=dtype)
    _add(graph, f"save/assign_{position}", "AssignVariableOp", [variable.node, restored], dtype=dtype)


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
