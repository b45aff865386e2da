"""Read any SavedModel into one flat graph, and write one as a SavedModel that TensorFlow 1 and 2 load."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu import wire
from tpu2gpu.errors import SignatureError, SourceError
from tpu2gpu.graphs.assets import ASSETS_FOLDER, hold_paths, stored_names, take_assets
from tpu2gpu.graphs.formats.graph_def import constant_sizes, model_graph_pieces
from tpu2gpu.graphs.formats.importing_first import not_a_saved_model
from tpu2gpu.graphs.formats.lazy_constants import parsing
from tpu2gpu.graphs.formats.saver import add_saver
from tpu2gpu.graphs.formats.streaming import Piece, check_size, message_field, write_pieces
from tpu2gpu.graphs.formats.variable_restore import find_variables, make_variables_resources
from tpu2gpu.graphs.functions.inlining import SideEffectsError, SignatureInliner
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel, unknown_signature
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.ops import REFERENCE
from tpu2gpu.graphs.signatures import (
    INIT_COLLECTIONS,
    INIT_SIGNATURE,
    OP_SIGNATURES,
    full_name,
    map_tensors,
    tensor_names,
)
from tpu2gpu.graphs.soundness.graph import check_meta_graph
from tpu2gpu.graphs.trust.policy import require_trust
from tpu2gpu.graphs.trust.review import review_model
from tpu2gpu.storage.confinement import check_nobody_waits
from tpu2gpu.storage.last_read import LastRead
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.whole_files import read_message
from tpu2gpu.tensorbundle.writer import BundleWriter

SAVED_MODEL_FILE = "saved_model.pb"
VARIABLES_FOLDER = "variables"
VARIABLES_PREFIX = f"{VARIABLES_FOLDER}/variables"


def parse_saved_model(source: str | os.PathLike[str]) -> Any:
    """Read the SavedModel proto of a folder.

    Raises:
        SourceError: There is none, or it cannot be parsed.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = place(source) / SAVED_MODEL_FILE
    if not path.is_file():
        raise not_a_saved_model(source, taken=f"the folder that holds {SAVED_MODEL_FILE}")
    check_nobody_waits(path.parent, path.parent / VARIABLES_FOLDER)
    with parsing(path, hint="export the model again"):
        saved_model = saved_model_pb2.SavedModel.FromString(read_message(path))
    if not saved_model.meta_graphs:
        raise SourceError(f"{path}: holds no graph", hint="export the model again")
    return saved_model


def choose_meta_graph(
    saved_model: Any,
    source: str | os.PathLike[str],
    tags: Iterable[str] = (),
    *,
    elsewhere: Collection[str] = (),
) -> Any:
    """Return the graph that is meant for serving, TPU-free where there is a choice; the only one under any tag.

    It is sound: whatever reads it meets no contradiction in it.

    Args:
        saved_model: The SavedModel proto.
        source: What errors call it.
        tags: The tags of the wanted graph, all of them.
        elsewhere: Constants whose values were left in the file.

    Raises:
        SourceError: Several graphs are there and none is tagged `serve`, or none has the wanted tags.
        GraphError: It contradicts itself.
        UnsupportedError: It is larger than the limits.
    """
    meta = _find_meta_graph(saved_model, source, tags)
    check_meta_graph(meta, source, elsewhere=elsewhere)
    return meta


def _find_meta_graph(saved_model: Any, source: str | os.PathLike[str], tags: Iterable[str]) -> Any:
    graphs, wanted = list(saved_model.meta_graphs), set(tags)
    listed = ", ".join(",".join(sorted(graph.meta_info_def.tags)) or "(none)" for graph in graphs)
    if wanted:
        named = [graph for graph in graphs if wanted == set(graph.meta_info_def.tags)]
        if not named:
            raise SourceError(
                f"{source}: no graph is tagged {','.join(sorted(wanted))}", hint=f"the tags of its graphs are {listed}"
            )
        return named[0]
    serving = [graph for graph in graphs if "serve" in graph.meta_info_def.tags] or graphs[: len(graphs) == 1]
    if not serving:
        raise SourceError(
            f"{source}: none of its {len(graphs)} graphs is tagged 'serve'",
            hint=f"import one with --tag TAGS; their tags are {listed}",
        )
    return min(serving, key=lambda graph: len(set(graph.meta_info_def.tags)))  # the first one, as TensorFlow does


def read_saved_model(source: str | os.PathLike[str]) -> ServingModel:
    """Read a SavedModel: signatures with all calls inlined, variables with their checkpoint keys.

    Args:
        source: The folder that holds `saved_model.pb`.

    Raises:
        SourceError: It is not a SavedModel.
        CheckpointError: Its variables are damaged.
        SideEffectsError: A signature writes to variables.
        GraphError: Its graph contradicts itself.
        SignatureError: It has no signature that serves.
    """
    return _last_model(place(source))


def serving_meta_graph(source: str | os.PathLike[str]) -> Any:
    """Return the sound graph of a SavedModel that is meant for serving, to read and not to change.

    Raises:
        SourceError: It is not a SavedModel, or which graph is meant cannot be told.
        GraphError: The graph contradicts itself.
        UnsupportedError: It is larger than the limits.
    """
    return _last_graph(place(source))


def read_meta_graph(meta: Any, source: str | os.PathLike[str], prefix: str | os.PathLike[str]) -> ServingModel:
    """Read a MetaGraphDef with signatures, and the checkpoint of its variables.

    Args:
        meta: The MetaGraphDef.
        source: What errors call it; the folder in which its assets lie.
        prefix: The checkpoint.

    Raises:
        SourceError: There is no checkpoint.
        CheckpointError: The checkpoint is damaged.
        SideEffectsError: A signature writes to variables.
        GraphError: The graph contradicts itself.
        SignatureError: It has no signature that serves.
    """
    source = place(source)
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    signatures = serving_signatures(meta)
    if not signatures:
        raise SignatureError(f"{source}: the model has no signature", hint="export it with a serving signature")
    inliner = SignatureInliner(meta.graph_def, ops)
    _add_signatures(inliner, signatures, source)
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


def _read_graph(source: Place) -> Any:
    return choose_meta_graph(parse_saved_model(source), source)


def _read_model(source: Place) -> ServingModel:
    return read_meta_graph(serving_meta_graph(source), source, source / VARIABLES_PREFIX)


def _graph_bytes(folder: Path) -> int:
    return (folder / SAVED_MODEL_FILE).stat().st_size


# A conversion, a cast and an evaluation read their source several times in one process.
_last_graph = LastRead(_read_graph, weigh=_graph_bytes)
_last_model = LastRead(_read_model, weigh=_graph_bytes, copied=ServingModel.copy)


def select_signatures(meta: Any, names: Iterable[str]) -> None:
    """Drop the signatures of a MetaGraphDef but for some, and so all that only the others need.

    Args:
        meta: The MetaGraphDef, changed in place.
        names: The signatures to keep; all when none is named.

    Raises:
        SignatureError: There is none of a name.
    """
    names = set(names)
    served = serving_signatures(meta)
    for name in sorted(names - served.keys()):
        raise unknown_signature(name, served)
    for name in served.keys() - names if names else ():
        del meta.signature_def[name]


def serving_signatures(meta: Any) -> dict[str, Any]:
    """Return the signatures of a MetaGraphDef that return something, the default one first."""
    ordered = sorted(meta.signature_def.items(), key=lambda item: (item[0] != DEFAULT_SIGNATURE, item[0]))
    return {name: it for name, it in ordered if name not in OP_SIGNATURES and it.outputs}


def _add_signatures(inliner: SignatureInliner, signatures: Mapping[str, Any], source: Place) -> None:
    """Copy what signatures need.

    Raises:
        SideEffectsError: Some write while they serve; all are listed.
        GraphError: The graph contradicts itself.
    """
    writing: dict[str, tuple[str, ...]] = {}
    for name, signature in signatures.items():
        try:
            for infos in (signature.inputs, signature.outputs):
                inliner.add(tensor for key in sorted(infos) for tensor in tensor_names(infos[key]))
        except SideEffectsError as error:
            writing[name] = error.details
    if writing:
        kept = [f"--signature {name}" for name in signatures if name not in writing]
        one = len(writing) == 1
        raise SideEffectsError(
            f"{source}: {'signature' if one else 'signatures'} {', '.join(writing)} "
            f"{'writes' if one else 'write'} to variables or tables while serving",
            details=[f"{name}: {detail}" for name, details in writing.items() for detail in details],
            hint=f"import the others with {' '.join(kept)}" if kept else "export a signature without side effects",
        )


def _flat_signature(signature: Any, inliner: SignatureInliner) -> Any:
    flat = copy.deepcopy(signature)
    for info in [*flat.inputs.values(), *flat.outputs.values()]:
        map_tensors(info, lambda name: full_name(inliner.tensor(name)))
        info.dtype %= REFERENCE  # reference variables become resources, which are read
    return flat


def _init_node(meta: Any) -> str:
    if INIT_SIGNATURE in meta.signature_def:
        outputs = meta.signature_def[INIT_SIGNATURE].outputs.values()
        return next((split_tensor(info.name)[0] for info in outputs), "")
    for collection in INIT_COLLECTIONS:
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
    model = hold_paths(model)
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
    for path, name in stored_names(model.assets).items():
        with path.open("rb") as file, (folder / ASSETS_FOLDER / name).open("wb") as target:
            shutil.copyfileobj(file, target)
    write_pieces(folder / SAVED_MODEL_FILE, pieces)


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
    names = stored_names(model.assets)
    for asset in model.assets:
        entry = meta.asset_file_def.add(filename=names[asset.path])
        entry.tensor_info.name = f"{asset.node}:0"
    if model.init_node:
        meta.collection_def["saved_model_main_op"].node_list.value.append(model.init_node)
    return meta


def _write_variables(model: ServingModel, folder: Path) -> None:
    with BundleWriter(folder / VARIABLES_PREFIX) as writer:
        for name, variable in sorted(model.variables.items()):
            checksum = model.stored_checksum(variable)
            writer.add(name, variable.dtype, variable.shape, model.value_chunks(variable), crc32c=checksum)


def _saved_model_pieces(model: ServingModel, meta: Any) -> list[Piece]:
    """Return a SavedModel with one MetaGraphDef: first the graph (field 2), then all that is small."""
    graph = model_graph_pieces(model, [*model.nodes.values(), *meta.graph_def.node])
    meta.ClearField("graph_def")
    rest = meta.SerializeToString(deterministic=True)
    return [wire.varint_field(1, 1), *message_field(2, [*message_field(2, graph), rest])]
