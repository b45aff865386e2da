"""Frozen GraphDefs: a graph alone in a file, its inputs and outputs in another beside it."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SignatureError, SourceError
from tpu2gpu.graphs.describing import size_bytes
from tpu2gpu.graphs.edit import consumers
from tpu2gpu.graphs.formats.lazy_constants import parsing, read_graph_file
from tpu2gpu.graphs.formats.streaming import Payload, Piece, check_size, graph_pieces, write_pieces
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.signatures import describe_tensor, has_tensor, new_signature, tensor_names
from tpu2gpu.graphs.soundness.graph import check_graph
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_model
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.whole_files import read_message, read_plain_text

FROZEN_GRAPH_FILE = "frozen_graph.pb"
SIGNATURE_FILE = "signature.json"


def write_graph_def(model: ServingModel, folder: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> None:
    """Write a model's graph, and the tensors of its signatures.

    Args:
        model: A model without variables.
        folder: An existing folder.
        trust: What the model may do besides computing.

    Raises:
        TrustRefusedError: It would do more.
        CheckpointError: A value of the source is damaged.
        UnsupportedError: The graph with its constants would exceed 2 GiB.
    """
    require_trust(review_model(model), trust, "the graph")
    pieces = model_graph_pieces(model, model.nodes.values())
    check_size(pieces, FROZEN_GRAPH_FILE, constant_sizes(model))
    signatures = {
        name: {
            "inputs": _dense_tensors(signature.inputs),
            "outputs": _dense_tensors(signature.outputs),
        }
        for name, signature in model.signatures.items()
    }
    write_pieces(Path(folder) / FROZEN_GRAPH_FILE, pieces)
    text = json.dumps({"signatures": signatures}, indent=2, sort_keys=True)
    (Path(folder) / SIGNATURE_FILE).write_text(text + "\n", encoding="utf-8")


def read_graph_def(path: str | os.PathLike[str], *, light: bool = False) -> ServingModel:
    """Read a frozen GraphDef.

    Its inputs and outputs come from the `signature.json` beside it; without one, placeholders are the inputs, and
    what nobody takes are the outputs.

    Args:
        path: The file.
        light: Leave large constants in the file: they are in the model's `constants`, and have no value in its nodes.

    Raises:
        SourceError: It cannot be parsed, or its `signature.json` is damaged.
        GraphError: It contradicts itself.
        UnsupportedError: It is larger than the limits.
        SignatureError: There is nothing to give in or to get out, or a named tensor is not there.
    """
    from tensorflow.core.framework import graph_pb2

    path, graph, constants = place(path), graph_pb2.GraphDef(), {}
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    with parsing(path, hint="freeze the model again"):
        if light:
            constants = read_graph_file(path, graph)
        else:
            graph.ParseFromString(read_message(path))
    ops = OpDefs()
    check_graph(graph, ops, path, elsewhere=constants)
    nodes = {node.name: node for node in graph.node}
    model = ServingModel(
        nodes=nodes,
        functions={function.signature.name: function for function in graph.library.function},
        signatures={},
        variables={},
        ops=ops,
        bundle=None,
        init_node="",
        assets=[],
        versions=graph.versions,
        tensorflow_version="",
        constants=constants,
    )
    beside = path.with_name(SIGNATURE_FILE)
    named = _read_signatures(beside) if beside.exists() else {DEFAULT_SIGNATURE: _by_structure(nodes, path)}
    for name, tensors in named.items():
        model.signatures[name] = _signature(model, tensors, path)
    model.prune()
    return model


def build_graph_def(model: ServingModel) -> Any:
    """Build a model's GraphDef in memory, with the values of its constants.

    Raises:
        CheckpointError: A value of the source is damaged.
    """
    graph = model.graph_def()
    for node in graph.node:
        if constant := model.constants.get(node.name):
            tensor = node.attr["value"].tensor
            tensor.dtype, tensor.tensor_content = constant.dtype, b"".join(model.value_chunks(constant))
            for size in constant.shape:
                tensor.tensor_shape.dim.add(size=size)
    return graph


def model_graph_pieces(model: ServingModel, nodes: Iterable[Any]) -> list[Piece]:
    """Return a model's GraphDef of the given nodes, its constants streamed from the checkpoint."""
    payloads = {
        name: (
            variable.dtype,
            variable.shape,
            Payload(size_bytes(variable), functools.partial(model.value_chunks, variable)),
        )
        for name, variable in model.constants.items()
    }
    return graph_pieces(nodes, model.functions.values(), model.versions, payloads)


def constant_sizes(model: ServingModel) -> list[tuple[str, int]]:
    """Return name and size in bytes of the constants that are streamed."""
    return [(name, size_bytes(variable)) for name, variable in model.constants.items()]


def _dense_tensors(infos: Any) -> dict[str, str]:
    """Return the tensors of one side of a signature; a graph knows sparse and ragged ones by their parts only."""
    tensors = {}
    for key, info in sorted(infos.items()):
        if info.WhichOneof("encoding") == "coo_sparse":
            parts = zip(("values", "indices", "dense_shape"), tensor_names(info), strict=True)
            tensors.update({f"{key}/{part}": name for part, name in parts})
        elif info.WhichOneof("encoding") == "composite_tensor":
            tensors.update({f"{key}/{number}": name for number, name in enumerate(tensor_names(info))})
        else:
            tensors[key] = info.name
    return tensors


def _read_signatures(path: Place) -> dict[str, Any]:
    try:
        signatures: dict[str, Any] = parse_json(read_plain_text(path))["signatures"]
        named = {name: {side: dict(it[side]) for side in ("inputs", "outputs")} for name, it in signatures.items()}
        if not all(isinstance(it, str) for sides in named.values() for side in sides.values() for it in side.values()):
            raise ValueError("a tensor's name is no text")
        return named
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: damaged ({error})", hint="remove it, or freeze the model again") from error


def _by_structure(nodes: dict[str, Any], path: Place) -> dict[str, dict[str, str]]:
    followers = consumers(nodes)
    inputs = [name for name, node in nodes.items() if node.op == "Placeholder"]
    outputs = [name for name, node in nodes.items() if not followers[name] and node.op not in ("NoOp", "Placeholder")]
    if not inputs or not outputs:
        raise SignatureError(f"{path}: no placeholder, or nothing that could be an output")
    return {"inputs": {name: f"{name}:0" for name in inputs}, "outputs": {name: f"{name}:0" for name in outputs}}


def _signature(model: ServingModel, tensors: dict[str, dict[str, str]], path: Place) -> Any:
    signature = new_signature()
    lost = []
    for side in ("inputs", "outputs"):
        for key, tensor in tensors[side].items():
            if has_tensor(model.nodes, model.ops, tensor):
                describe_tensor(getattr(signature, side)[key], model.nodes, model.ops, tensor)
            else:
                lost.append(f"{key}: {tensor}")
    if lost:
        raise SignatureError(f"{path}: tensors of its signature are not in the graph", details=lost)
    return signature
