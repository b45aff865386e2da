"""Read any SavedModel into one flat graph, and write one as a SavedModel that TensorFlow 1 and 2 load."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu2gpu import wire
from tpu2gpu.errors import SignatureError, SourceError
from tpu2gpu.graphs.assets import ASSETS_FOLDER, take_assets
from tpu2gpu.graphs.formats.graph_def import constant_sizes, model_graph_pieces
from tpu2gpu.graphs.formats.lazy_constants import parsing
from tpu2gpu.graphs.formats.saver import add_saver
from tpu2gpu.graphs.formats.streaming import Piece, check_size, message_field, write_pieces
from tpu2gpu.graphs.formats.variable_restore import find_variables, make_variables_resources
from tpu2gpu.graphs.functions.inlining import SignatureInliner
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.signatures import full_name, map_tensors, tensor_names
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_model
from tpu2gpu.storage.paths import place
from tpu2gpu.tensorbundle.writer import BundleWriter

SAVED_MODEL_FILE = "saved_model.pb"
VARIABLES_PREFIX = "variables/variables"
INIT_SIGNATURE = "__saved_model_init_op"
_TRAIN_SIGNATURE = "__saved_model_train_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


def parse_saved_model(source: str | os.PathLike[str]) -> Any:
    """Read the SavedModel proto of a folder.

    Raises:
        SourceError: There is none, or it cannot be parsed.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = place(source) / SAVED_MODEL_FILE
    if not place(source).exists():
        raise SourceError(f"{source}: no such folder")
    if not path.is_file():
        raise SourceError(
            f"{source}: not a SavedModel ({SAVED_MODEL_FILE} is missing)",
            hint=f"give the folder that holds {SAVED_MODEL_FILE}",
        )
    with parsing(path, hint="export the model again"):
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    if not saved_model.meta_graphs:
        raise SourceError(f"{path}: holds no graph", hint="export the model again")
    return saved_model


def choose_meta_graph(saved_model: Any, source: str | os.PathLike[str]) -> Any:
    """Return the graph that is meant for serving, TPU-free where there is a choice.

    Raises:
        SourceError: No graph is tagged `serve`.
    """
    serving = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not serving:
        tags = [sorted(graph.meta_info_def.tags) for graph in saved_model.meta_graphs]
        raise SourceError(f"{source}: no graph is tagged 'serve', the tags are {tags}", hint="export it for serving")
    return min(serving, key=lambda graph: len(graph.meta_info_def.tags))


def read_saved_model(source: str | os.PathLike[str]) -> ServingModel:
    """Read a SavedModel: signatures with all calls inlined, variables with their checkpoint keys.

    Args:
        source: The folder that holds `saved_model.pb`.

    Raises:
        SourceError: It is not a SavedModel.
        CheckpointError: Its variables are damaged.
        GraphError: Its graph contradicts itself, or a signature writes to variables.
        SignatureError: It has no signature that serves.
    """
    source = place(source)
    meta = choose_meta_graph(parse_saved_model(source), source)
    return read_meta_graph(meta, source, source / VARIABLES_PREFIX)


def read_meta_graph(meta: Any, source: str | os.PathLike[str], prefix: str | os.PathLike[str]) -> ServingModel:
    """Read a MetaGraphDef with signatures, and the checkpoint of its variables.

    Args:
        meta: The MetaGraphDef.
        source: What errors call it; the folder in which its assets lie.
        prefix: The checkpoint.

    Raises:
        SourceError: There is no checkpoint.
        CheckpointError: The checkpoint is damaged.
        GraphError: The graph contradicts itself, or a signature writes to variables.
        SignatureError: It has no signature that serves.
    """
    source = place(source)
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    signatures = {
        name: signature
        for name, signature in sorted(
            meta.signature_def.items(), key=lambda item: (item[0] != DEFAULT_SIGNATURE, item[0])
        )
        if name not in (INIT_SIGNATURE, _TRAIN_SIGNATURE) and signature.outputs
    }
    if not signatures:
        raise SignatureError(f"{source}: the model has no signature", hint="export it with a serving signature")
    inliner = SignatureInliner(meta.graph_def, ops)
    for signature in signatures.values():
        for infos in (signature.inputs, signature.outputs):
            inliner.add(name for key in sorted(infos) for name in tensor_names(infos[key]))
    init_node = _init_node(meta)
    if init_node:
        inliner.add([init_node], ordered=True)
        # An empty initialiser need not stay.
        if init_node in inliner.nodes and not inliner.nodes[init_node].input:
            init_node = ""
    model = ServingModel(
        nodes=inliner.nodes,
        functions=inliner.needed_functions(),
        signatures={name: _flat_signature(signature, inliner) for name, signature in signatures.items()},
        variables={},
        ops=ops,
        bundle=None,
        init_node=init_node if init_node in inliner.nodes else "",
        assets=take_assets(meta, source, inliner.nodes),
        versions=meta.graph_def.versions,
        tensorflow_version=meta.meta_info_def.tensorflow_version,
        dropped_effects=inliner.dropped_effects,
    )
    make_variables_resources(model)
    find_variables(model, meta, prefix)
    model.prune()
    return model


def _flat_signature(signature: Any, inliner: SignatureInliner) -> Any:
    flat = copy.deepcopy(signature)
    for info in [*flat.inputs.values(), *flat.outputs.values()]:
        map_tensors(info, lambda name: full_name(inliner.tensor(name)))
    return flat


def _init_node(meta: Any) -> str:
    if INIT_SIGNATURE in meta.signature_def:
        return split_tensor(next(iter(meta.signature_def[INIT_SIGNATURE].outputs.values())).name)[0]
    for collection in _INIT_COLLECTIONS:
        if collection in meta.collection_def and meta.collection_def[collection].node_list.value:
            return split_tensor(meta.collection_def[collection].node_list.value[0])[0]
    return ""


def write_saved_model(
    model: ServingModel,
    folder: str | os.PathLike[str],
    *,
    write_variables: bool = True,
    trust: Sequence[str] = (),
) -> None:
    """Write a model as a SavedModel: one flat graph, variables keyed by their names, assets beside it.

    Args:
        model: What to write.
        folder: An existing folder; empty, but for variables that stand already.
        write_variables: Write the variables too; otherwise they stand in the folder already.
        trust: What the model may do besides computing.

    Raises:
        TrustRefusedError: It would do more.
        CheckpointError: A value of the source is damaged.
        UnsupportedError: The graph with its constants would exceed 2 GiB.
    """
    require_trust(review_model(model), trust, "the graph")
    folder = Path(folder)
    meta = _meta_graph(model)
    if model.variables:
        add_saver(meta, model.variables)
    pieces = _saved_model_pieces(model, meta)
    check_size(pieces, SAVED_MODEL_FILE, constant_sizes(model))
    if model.variables and write_variables:
        _write_variables(model, folder)
    if model.assets:
        (folder / ASSETS_FOLDER).mkdir()
    for asset in model.assets:
        with asset.path.open("rb") as file, (folder / ASSETS_FOLDER / asset.path.name).open("wb") as target:
            shutil.copyfileobj(file, target)
    with (folder / SAVED_MODEL_FILE).open("wb") as file:
        write_pieces(file, pieces)


def _meta_graph(model: ServingModel) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = model.tensorflow_version
    bodies = (node.op for function in model.functions.values() for node in function.node_def)
    used = [*(node.op for node in model.nodes.values()), *bodies]
    meta.meta_info_def.stripped_op_list.op.extend(model.ops.known(used))
    for name, signature in model.signatures.items():
        meta.signature_def[name].CopyFrom(signature)
    for asset in model.assets:
        entry = meta.asset_file_def.add(filename=asset.path.name)
        entry.tensor_info.name = f"{asset.node}:0"
    if model.init_node:
        meta.collection_def["saved_model_main_op"].node_list.value.append(model.init_node)
    return meta


def _write_variables(model: ServingModel, folder: Path) -> None:
    with BundleWriter(folder / VARIABLES_PREFIX) as writer:
        for name, variable in sorted(model.variables.items()):
            writer.add(name, variable.dtype, variable.shape, model.value_chunks(variable))


def _saved_model_pieces(model: ServingModel, meta: Any) -> list[Piece]:
    """Return a SavedModel with one MetaGraphDef: first the graph (field 2), then all that is small."""
    graph = model_graph_pieces(model, [*model.nodes.values(), *meta.graph_def.node])
    meta.ClearField("graph_def")
    rest = meta.SerializeToString(deterministic=True)
    return [wire.varint_field(1, 1), *message_field(2, [*message_field(2, graph), rest])]
