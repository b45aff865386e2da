"""Finds a graph's variables in its checkpoint: by dataflow and the object graph, never by guessing names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import ancestors, consumers
from tpu2gpu.graphs.functions.inlining import SignatureInliner
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, split_tensor
from tpu2gpu.graphs.ops import CALLS
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.slices import Box, parse_spec

HANDLE_SUFFIX = "/handle"


@attrs.frozen
class _Known:
    """What a model says of one variable besides the graph."""

    key: str = ""
    name: str = ""
    trainable: bool = True
    box: Box | None = None


def find_variables(model: ServingModel, meta: Any, prefix: str | os.PathLike[str]) -> None:
    """Fill in a model's variables: key, type, shape, trainability, and their own names where those are free.

    Args:
        model: A model whose flat graph holds VarHandleOps.
        meta: The MetaGraphDef that it came from.
        prefix: The checkpoint.

    Raises:
        GraphError: Variables have no value, or one of another type or shape; all are listed.
        SourceError: There is no checkpoint.
        CheckpointError: The checkpoint is damaged.
    """
    handles = {name: node for name, node in model.nodes.items() if node.op == "VarHandleOp"}
    if not handles:
        return
    model.bundle = Bundle(prefix)
    known = dict(_from_restore_op(meta, model.ops))
    known.update(_from_object_graph(meta, model.bundle, known))
    for name in [name for name in handles if name not in known]:
        if _bypass_local_variable(model, name):
            del handles[name]
    wrong = []
    for name, node in handles.items():
        about = known.get(name.removesuffix(HANDLE_SUFFIX), known.get(name, _Known()))
        mismatch = _mismatch(node, about, model.bundle)
        if mismatch:
            wrong.append(f"{name}: {mismatch}")
            continue
        shape = _shape(about, model.bundle)
        model.variables[name] = Variable(
            name, about.key, node.attr["dtype"].type, shape, about.trainable, box=about.box
        )
    if wrong:
        raise GraphError(f"{prefix}: does not fit the graph", details=wrong, hint="export the model again")
    _give_names(model, {variable.node: known_name for variable, known_name in _own_names(model, known)})


def _bypass_local_variable(model: ServingModel, name: str) -> bool:
    """Take out a variable that the initialiser fills, such as the path of an asset; no checkpoint has it."""
    takers = [node for node, _ in consumers(model.nodes)[name]]
    assigns = [node for node in takers if node.op == "AssignVariableOp"]
    readers = [node for node in takers if node.op == "ReadVariableOp"]
    if len(assigns) != 1 or len(takers) != 1 + len(readers):
        return False
    value = assigns[0].input[1]
    model.replace_all_uses({node.name: value for node in [*assigns, *readers]})
    return True


def _shape(about: _Known, bundle: Bundle) -> tuple[int, ...]:
    """The shape of what a variable is restored from: a tensor, or a part of one."""
    return bundle.entry(about.key).shape if about.box is None else about.box.sizes


def _mismatch(handle: Any, about: _Known, bundle: Bundle) -> str:
    if not about.key:
        return "nothing restores it"
    if about.key not in bundle:
        return f"no {about.key!r} in the checkpoint"
    entry, found = bundle.entry(about.key), _shape(about, bundle)
    declared = handle.attr["shape"].shape
    shape = [dim.size for dim in declared.dim]
    same_rank = declared.unknown_rank or len(shape) == len(found)
    same_sizes = all(size in (-1, it) for size, it in zip(shape, found, strict=False))
    if handle.attr["dtype"].type != entry.dtype or not same_rank or not same_sizes:
        return f"{shape} in the graph, {entry.dtype_name} {list(found)} in the checkpoint"
    return ""


def _from_restore_op(meta: Any, ops: OpDefs) -> Iterator[tuple[str, _Known]]:
    """Which key, and which part of it, each variable is restored from, told by the dataflow of the restore op."""
    from tensorflow.core.framework import variable_pb2
    from tensorflow.python.framework import tensor_util

    trainable: dict[str, bool] = {}
    for collection in ("variables", "trainable_variables"):
        if collection in meta.collection_def:
            for text in meta.collection_def[collection].bytes_list.value:
                name = split_tensor(variable_pb2.VariableDef.FromString(text).variable_name)[0]
                trainable[name] = collection == "trainable_variables"
    nodes = restoring_nodes(meta, ops)
    texts: dict[str, Any] = {}

    def listed(reference: str, index: int) -> str:
        name = split_tensor(reference)[0]
        if name not in texts:
            texts[name] = tensor_util.MakeNdarray(nodes[name].attr["value"].tensor)
        return str(texts[name][index].decode())

    for node in nodes.values():
        if node.op not in ("Assign", "AssignVariableOp"):
            continue
        source, index = split_tensor(node.input[1])
        while nodes[source].op in ("Identity", "Reshape"):
            source, index = split_tensor(nodes[source].input[0])
        restore = nodes[source]
        if restore.op == "RestoreV2":
            part = parse_spec(listed(restore.input[2], index))
            variable = split_tensor(node.input[0])[0]
            box = part[1] if part else None
            yield variable, _Known(listed(restore.input[1], index), "", trainable.get(variable, True), box)


def restoring_nodes(meta: Any, ops: OpDefs) -> Mapping[str, Any]:
    """The nodes with which a MetaGraphDef's saver restores variables, laid flat; none without a saver.

    Raises:
        GraphError: The graph contradicts itself.
    """
    wanted = meta.saver_def.restore_op_name
    if not wanted:
        return {}
    nodes = {node.name: node for node in meta.graph_def.node}
    calls = {*CALLS, *(function.signature.name for function in meta.graph_def.library.function)}
    with suppress(KeyError):  # the inliner says what is missing
        found = {name: nodes[name] for name in ancestors(nodes, [wanted])}
        if not any(node.op in calls for node in found.values()):
            return found
    inliner = SignatureInliner(meta.graph_def, ops)
    inliner.add([wanted], ordered=True)
    return inliner.nodes


def _from_object_graph(meta: Any, bundle: Bundle, known: dict[str, _Known]) -> Iterator[tuple[str, _Known]]:
    """What TensorFlow 2 knows of the variables that functions capture; it names them even where graphs do not."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    if OBJECT_GRAPH_KEY not in bundle:
        return
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(bundle.read(OBJECT_GRAPH_KEY).item())
    objects = meta.object_graph_def
    described: dict[int, _Known] = {}
    by_key: dict[str, _Known] = {}
    for number, (node, description) in enumerate(zip(graph.nodes, objects.nodes, strict=False)):
        if description.WhichOneof("kind") == "variable" and node.attributes:
            key = node.attributes[0].checkpoint_key
            described[number] = _Known(key, description.variable.name, description.variable.trainable)
            by_key[key] = described[number]
    for variable, about in known.items():
        if about.key in by_key:
            yield variable, by_key[about.key]
    for call in meta.graph_def.node:
        function = objects.concrete_functions.get(call.attr["f"].func.name) if "f" in call.attr else None
        if function is None:
            continue
        captured = data_inputs(call)[-len(function.bound_inputs) :] if function.bound_inputs else []
        for reference, number in zip(captured, function.bound_inputs, strict=False):
            if number in described:
                yield split_tensor(reference)[0], described[number]


def _own_names(model: ServingModel, known: dict[str, _Known]) -> Iterator[tuple[Variable, str]]:
    for variable in model.variables.values():
        plain = variable.node.removesuffix(HANDLE_SUFFIX)
        about = known.get(plain, known.get(variable.node, _Known()))
        yield variable, about.name or plain


def _give_names(model: ServingModel, wanted: dict[str, str]) -> None:
    """Call each variable's node by the variable's own name, where no other node has it."""
    renamed = {}
    for old, name in wanted.items():
        if old != name:
            node, variable = model.nodes.pop(old), model.variables.pop(old)
            node.name = variable.node = renamed[old] = model.free_name(name)
            node.attr["shared_name"].s = node.name.encode()
            model.nodes[node.name], model.variables[node.name] = node, variable
    model.replace_all_uses(renamed)
