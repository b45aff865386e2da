"""Read what TensorFlow 1 leaves of an inference graph: a `.meta` or `.pb` file and a checkpoint beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from tpu2gpu.errors import SignatureError, SourceError, UsageError, foreign_errors
from tpu2gpu.graphs.assets import take_named_files
from tpu2gpu.graphs.edit import ancestors
from tpu2gpu.graphs.formats.restore_ops import find_restore_op
from tpu2gpu.graphs.formats.saved_model import read_meta_graph
from tpu2gpu.graphs.formats.saver import OURS, add_restore_op
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.nodes import OpDefs, join_tensor, split_tensor
from tpu2gpu.graphs.signatures import describe_tensor, has_tensor, new_signature
from tpu2gpu.graphs.soundness.graph import check_meta_graph
from tpu2gpu.options import did_you_mean
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.whole_files import read_message

_INIT_COLLECTION = "table_initializer"


def read_checkpointed_graph(
    path: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    outputs: Iterable[str] = (),
    *,
    trust: Sequence[str] = (),
) -> ServingModel:
    """Read an inference graph and its checkpoint; the placeholders that its outputs need are its inputs.

    Variables are found by the graph's own restore op; a graph without one has its variables under their names, as
    TensorFlow's Saver writes them.

    Args:
        path: A MetaGraphDef (`.meta`) or a GraphDef (`.pb`, or `.pbtxt` as text).
        checkpoint: The checkpoint's path without `.index`.
        outputs: What the signature returns: `NODE`, `NODE:INDEX` or `KEY=NODE:INDEX`. May be left out where the file
            itself has signatures.
        trust: With `files`, files that the graph names may lie anywhere; else in the graph's folder.

    Raises:
        TrustRefusedError: A file that the graph names lies elsewhere.
        SourceError: A file is missing or cannot be parsed.
        UsageError: No output is named, or one is twice.
        SignatureError: A named output is not in the graph.
        CheckpointError: The checkpoint is damaged.
        GraphError: The checkpoint does not fit the graph, or the graph contradicts itself.
    """
    meta = read_bare_graph(path, outputs)
    model = read_meta_graph(meta, path, checkpoint)
    model.assets += take_named_files(meta, model, place(path).parent, trust)
    return model


def read_bare_graph(path: str | os.PathLike[str], outputs: Iterable[str] = ()) -> Any:
    """Read an inference graph as a MetaGraphDef with a signature, a saver, and one node that fills its tables.

    Args:
        path: As of `read_checkpointed_graph`.
        outputs: As of `read_checkpointed_graph`.

    Raises:
        SourceError: The file is missing or cannot be parsed.
        UsageError: No output is named, or one is twice.
        SignatureError: A named output is not in the graph.
    """
    meta = parse_graph_file(place(path))
    wanted = list(outputs)
    if wanted:
        meta.signature_def.clear()
        meta.signature_def[DEFAULT_SIGNATURE].CopyFrom(_signature(meta, wanted, path))
    elif not meta.signature_def:
        raise UsageError(f"{path}: has no signature", hint="name what it should return with --output NAME")
    _add_initialiser(meta)
    if not meta.saver_def.restore_op_name:
        meta.saver_def.restore_op_name = find_restore_op(meta.graph_def) or add_restore_op(meta.graph_def)
    return meta


def parse_graph_file(path: Place) -> Any:
    """Read a MetaGraphDef or a GraphDef, as bytes or as text, into a MetaGraphDef.

    Raises:
        SourceError: The file is not there, or holds no graph.
        GraphError: The graph contradicts itself.
        UnsupportedError: It is larger than the limits.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    with foreign_errors(SourceError, f"{path}: not a graph", catch=ValueError):
        data = read_message(path)
    kinds: list[Any] = [meta_graph_pb2.MetaGraphDef, graph_pb2.GraphDef]
    for kind in kinds if path.suffix == ".meta" else reversed(kinds):
        for from_text in (False, True):
            proto = kind()
            try:
                if from_text:
                    text_format.Parse(data.decode(), proto)
                else:
                    proto.ParseFromString(data)
            except (DecodeError, UnicodeDecodeError, text_format.ParseError, RecursionError):
                continue
            meta = proto if kind is meta_graph_pb2.MetaGraphDef else meta_graph_pb2.MetaGraphDef(graph_def=proto)
            if meta.graph_def.node:
                check_meta_graph(meta, path)
                return meta
    raise SourceError(
        f"{path}: neither a MetaGraphDef (.meta) nor a GraphDef (.pb, .pbtxt)", hint="fetch or write the graph again"
    )


def _signature(meta: Any, outputs: list[str], path: str | os.PathLike[str]) -> Any:
    signature = new_signature()
    nodes = {node.name: node for node in meta.graph_def.node}
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    lost = []
    for text in outputs:
        key, _, tensor = text.rpartition("=")
        name, index = split_tensor(tensor)
        if (key or tensor) in signature.outputs:
            raise UsageError(f"--output {text}: this name is there already")
        if has_tensor(nodes, ops, tensor):
            describe_tensor(signature.outputs[key or join_tensor(name, index)], nodes, ops, tensor)
        else:
            lost.append(f"{tensor}: {did_you_mean(name, nodes) or 'no such tensor'}")
    if lost:
        raise SignatureError(f"{path}: outputs are not in the graph", details=lost)
    roots = [split_tensor(info.name)[0] for info in signature.outputs.values()]
    for name in sorted(ancestors(nodes, roots)):
        if nodes[name].op == "Placeholder":
            describe_tensor(signature.inputs[name], nodes, ops, name)
    return signature


def _add_initialiser(meta: Any) -> None:
    """Make one node of all that fills tables, where the collections name such nodes."""
    if _INIT_COLLECTION not in meta.collection_def:
        return
    node = meta.graph_def.node.add(name=f"{OURS}/init", op="NoOp")
    node.input.extend(f"^{split_tensor(name)[0]}" for name in meta.collection_def[_INIT_COLLECTION].node_list.value)
    meta.collection_def["saved_model_main_op"].node_list.value[:] = [node.name]
