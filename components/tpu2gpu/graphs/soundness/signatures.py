"""Signatures, initialisers and assets against the graph that they name tensors of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import DT_INT64, DT_STRING, REFERENCE
from tpu2gpu.graphs.signatures import INIT_COLLECTIONS, OP_SIGNATURES, tensor_names
from tpu2gpu.graphs.soundness.edges import wrong_type
from tpu2gpu.graphs.soundness.nodes import NodeRules
from tpu2gpu.graphs.soundness.tensors import known_types, wrong_shape


def wrong_references(meta: Any, rules: NodeRules) -> Iterator[str]:
    """Tell what a MetaGraphDef names that its graph has not, or has in another form.

    Args:
        meta: The MetaGraphDef, whose graph is sound.
        rules: The rules that its nodes were held against.
    """
    nodes = {node.name: node for node in meta.graph_def.node}
    for name, signature in meta.signature_def.items():
        yield from (f"signature {name}: {it}" for it in _wrong_signature(name, signature, nodes, rules))
    yield from _wrong_assets(meta, nodes, rules)
    for collection in (it for it in INIT_COLLECTIONS if it in meta.collection_def):
        for node in meta.collection_def[collection].node_list.value:
            if split_tensor(node)[0] not in nodes:
                yield f"collection {collection}: runs {node}, which there is not"
    for name, function in meta.object_graph_def.concrete_functions.items():
        if not all(0 <= number < len(meta.object_graph_def.nodes) for number in function.bound_inputs):
            yield f"function {name}: captures objects that there are not"


def _wrong_signature(name: str, signature: Any, nodes: Mapping[str, Any], rules: NodeRules) -> Iterator[str]:
    fed: dict[tuple[str, int], str] = {}
    for key, info in (*signature.inputs.items(), *signature.outputs.items()):
        if info.dtype and info.dtype % REFERENCE not in known_types():
            yield f"{key} is of DataType {info.dtype}, which there is not"
        if problem := wrong_shape(info.tensor_shape):
            yield f"{key} has {problem}"
        if info.WhichOneof("encoding") is None:
            yield f"{key} names no tensor"
            continue
        for tensor, dtype in zip(tensor_names(info), _types(info), strict=True):
            node, index = split_tensor(tensor)
            if node not in nodes:
                yield f"{key} is {tensor}, which there is not"
                continue
            given = rules.read(nodes[node]).given
            if given is None:
                continue
            if index >= len(given) and name not in OP_SIGNATURES:
                yield f"{key} is {tensor}, but {node} has {len(given)} outputs"
            elif index < len(given) and (wrong := wrong_type(tensor, dtype % REFERENCE, given[index])):
                yield f"{key} is {wrong}"
    for key, info in signature.inputs.items():
        if info.name and (other := fed.setdefault(split_tensor(info.name), key)) != key:
            yield f"{other} and {key} both feed {info.name}, which takes one value"


def _types(info: Any) -> list[int]:
    """Return the types that a TensorInfo's tensors have by its word, 0 for any."""
    if info.WhichOneof("encoding") == "coo_sparse":
        return [info.dtype, DT_INT64, DT_INT64]  # values, indices, dense shape
    return [info.dtype] if info.name else [0] * len(tensor_names(info))


def _wrong_assets(meta: Any, nodes: Mapping[str, Any], rules: NodeRules) -> Iterator[str]:
    named: dict[str, str] = {}
    for asset in meta.asset_file_def:
        node, index = split_tensor(asset.tensor_info.name)
        given = rules.read(nodes[node]).given if node in nodes else None
        if given is not None and (index >= len(given) or wrong_type(node, DT_STRING, given[index])):
            yield f"asset {asset.filename}: its path is fed to {asset.tensor_info.name}, which is no text"
        if (other := named.setdefault(asset.tensor_info.name, asset.filename)) != asset.filename:
            yield f"assets {other} and {asset.filename} are both fed to {asset.tensor_info.name}"
