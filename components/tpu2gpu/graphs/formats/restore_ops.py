"""The ops by which a graph's own saver restores its variables: which tensor of a checkpoint each is restored from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import attrs

from tpu2gpu.errors import GraphError, Tpu2GpuError, foreign_errors
from tpu2gpu.graphs.edit import ancestors, const_texts, skip_passthrough
from tpu2gpu.graphs.functions.inlining import SignatureInliner
from tpu2gpu.graphs.nodes import OpDefs, is_control, producer, split_tensor
from tpu2gpu.graphs.ops import ASSIGNS, CALLS
from tpu2gpu.tensorbundle.slices import Box, parse_spec


@attrs.frozen
class Restored:
    """What a saver restores a variable from.

    Attributes:
        key: The tensor of the checkpoint.
        box: Which part of it, for a part of a partitioned variable.
        rivals: Other tensors that rules for names have made alike.
    """

    key: str
    box: Box | None = None
    rivals: tuple[str, ...] = ()


def restored_variables(meta: Any, ops: OpDefs) -> dict[str, Restored]:
    """Return what a MetaGraphDef's saver restores each variable from, told by dataflow; nothing without a saver.

    Raises:
        GraphError: The graph contradicts itself.
    """
    nodes = _restoring_nodes(meta, ops)
    listed: dict[str, list[bytes]] = {}

    def text(reference: str, index: int) -> str:
        name = split_tensor(reference)[0]
        if name not in listed:
            listed[name] = const_texts(nodes[name])
        if index >= len(listed[name]):
            raise GraphError(f"{name}: {len(listed[name])} texts, and a saver wants one more of them")
        return listed[name][index].decode(errors="backslashreplace")

    found = {}
    for variable, restore, index in _restores(nodes, nodes.values()):
        part = parse_spec(text(restore.input[2], index))
        found[variable] = Restored(text(restore.input[1], index), part[1] if part else None)
    return found


def restored_by_saver(meta: Any, ops: OpDefs) -> dict[str, Restored]:
    """Return what `restored_variables` does, and nothing for a saver that makes no sense."""
    try:
        return restored_variables(meta, ops)
    except Tpu2GpuError:
        return {}


def find_restore_op(graph: Any) -> str:
    """Return a GraphDef's node that restores most variables, or nothing."""
    nodes = {node.name: node for node in graph.node}
    best, most = "", 0
    for node in graph.node:
        sources = [nodes[producer(reference)] for reference in node.input if is_control(reference)]
        count = len(list(_restores(nodes, sources)))
        if node.op == "NoOp" and count > most and count == len(sources):
            best, most = node.name, count
    return best


def collected_variables(meta: Any, collection: str) -> set[str] | None:
    """Return the variables in a collection of a MetaGraphDef, None where there is no such collection."""
    from tensorflow.core.framework import variable_pb2

    if collection not in meta.collection_def:
        return None
    texts = meta.collection_def[collection].bytes_list.value
    with foreign_errors(
        GraphError, f"the graph's collection of {collection} is damaged", hint="export the graph again"
    ):
        return {split_tensor(variable_pb2.VariableDef.FromString(text).variable_name)[0] for text in texts}


def trainable_names(meta: Any) -> set[str] | None:
    """Return the variables that training changes by gradients, None where nothing tells."""
    return collected_variables(meta, "trainable_variables")


def _restores(nodes: Mapping[str, Any], among: Any) -> Iterator[tuple[str, Any, int]]:
    """Return each variable that some nodes restore, the RestoreV2 that it comes from, and which output of that."""
    for node in among:
        if node.op in ASSIGNS:
            source, index = skip_passthrough(nodes, node.input[1], ("Identity", "Reshape"))
            if source.op == "RestoreV2":
                yield split_tensor(node.input[0])[0], source, index


def _restoring_nodes(meta: Any, ops: OpDefs) -> Mapping[str, Any]:
    """Return the nodes with which a MetaGraphDef's saver restores variables, laid flat; none without a saver."""
    wanted = meta.saver_def.restore_op_name
    if not wanted:
        return {}
    nodes = {node.name: node for node in meta.graph_def.node}
    calls = {*CALLS, *(function.signature.name for function in meta.graph_def.library.function)}
    with suppress(GraphError):  # the inliner says what is missing
        found = {name: nodes[name] for name in sorted(ancestors(nodes, [wanted]))}
        if not any(node.op in calls for node in found.values()):
            return found
    inliner = SignatureInliner(meta.graph_def, ops)
    inliner.add([wanted], ordered=True)
    return inliner.nodes
