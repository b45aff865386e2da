"""The files that a graph reads, such as vocabularies: where a model names them, and where they lie."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, TrustRefusedError, foreign_errors
from tpu2gpu.graphs.edit import add, ancestors, const_node, const_texts, free_name, replace_all_uses
from tpu2gpu.graphs.model import Asset, ServingModel
from tpu2gpu.graphs.nodes import producer, split_tensor
from tpu2gpu.graphs.ops import DT_STRING
from tpu2gpu.storage.confinement import file_inside, why_outside
from tpu2gpu.storage.paths import Place

ASSETS_FOLDER = "assets"
_PATHS_COLLECTION = "asset_filepaths"
_FILES_COLLECTION = "saved_model_assets"  # where TensorFlow 1 told them before 1.13


def asset_files(meta: Any) -> dict[str, str]:
    """Return the file name of each asset of a SavedModel's graph, by the node that holds its path."""
    return dict(_asset_entries(meta))


def _asset_entries(meta: Any) -> list[tuple[str, str]]:
    from tensorflow.core.protobuf import meta_graph_pb2

    entries = list(meta.asset_file_def)
    if not entries and _FILES_COLLECTION in meta.collection_def:
        for packed in meta.collection_def[_FILES_COLLECTION].any_list.value:
            entry = meta_graph_pb2.AssetFileDef()
            with foreign_errors(SourceError, f"the graph's list of assets ({_FILES_COLLECTION}) is damaged"):
                packed.Unpack(entry)
            entries.append(entry)
    return [(split_tensor(entry.tensor_info.name)[0], entry.filename) for entry in entries]


def check_assets(meta: Any, source: Place) -> None:
    """Check that all assets that a SavedModel names are files in its folder of assets.

    Raises:
        SourceError: One is missing, a link, or outside.
    """
    for _, name in _asset_entries(meta):
        _asset_file(source, name)


def take_assets(meta: Any, source: Place, nodes: dict[str, Any]) -> list[Asset]:
    """Return the assets of a SavedModel that its flat graph reads.

    Raises:
        SourceError: One is missing, a link, or outside the folder of assets.
    """
    assets = []
    for node, name in asset_files(meta).items():
        if node not in nodes:
            continue
        assets.append(Asset(node, _asset_file(source, name)))
        # TensorFlow 2 has a placeholder where loaders of flat graphs want a constant to feed.
        if nodes[node].op == "Placeholder":
            nodes[node] = const_node(node, name)
    return assets


def _asset_file(source: Place, name: str) -> Place:
    if problem := why_outside(source, ASSETS_FOLDER):
        raise SourceError(f"{source}: its folder {ASSETS_FOLDER} is {problem}", hint="put the files themselves there")
    return file_inside(source / ASSETS_FOLDER, name, f"{source}: asset")


def stored_names(assets: Iterable[Asset]) -> dict[Place, str]:
    """Return what each file is called in one folder: its own name, with a number behind where another has it."""
    names: dict[Place, str] = {}
    taken: set[str] = set()
    for asset in assets:
        if asset.path not in names:
            names[asset.path] = free_name(taken, asset.path.name)
            taken.add(names[asset.path])
    return names


def hold_paths(model: ServingModel) -> ServingModel:
    """Let signatures read paths of assets from variables that the initialiser writes.

    Loaders put the paths into constants for the initialiser alone: a signature that reads a constant would open the
    file of that name on whatever machine serves it.

    Returns:
        The model itself where no signature needs a path.
    """
    if not model.assets:
        return model
    served = ancestors(model.nodes, {producer(tensor) for tensor in model.output_tensors()})
    needed = sorted({asset.node for asset in model.assets} & served)
    if not needed:
        return model
    nodes = dict(model.nodes)
    initialized = ancestors(nodes, [model.init_node] if model.init_node else [])
    read, written = {}, []
    for name in needed:
        handle = add(nodes, f"{name}/held", "VarHandleOp", dtype=DT_STRING)
        handle.attr["shape"].shape.SetInParent()
        handle.attr["shared_name"].s = handle.name.encode()
        written.append(add(nodes, f"{name}/write", "AssignVariableOp", [handle.name, name], dtype=DT_STRING).name)
        read[name] = add(nodes, f"{name}/read", "ReadVariableOp", [handle.name], dtype=DT_STRING).name
    for name in served - initialized:
        if any(producer(reference) in read for reference in nodes[name].input):
            nodes[name] = copy.deepcopy(nodes[name])
            replace_all_uses([nodes[name]], read)
    written += [model.init_node] if model.init_node else []
    init = add(nodes, "init_with_paths", "NoOp", [f"^{name}" for name in written])
    return attrs.evolve(model, nodes=nodes, init_node=init.name)


def take_named_files(meta: Any, model: ServingModel, folder: Place, trust: Sequence[str]) -> list[Asset]:
    """Return the files that a graph of TensorFlow 1 names by their paths.

    Args:
        meta: The graph.
        model: The flat graph.
        folder: Where they may lie.
        trust: With `files` they may lie anywhere.

    Raises:
        GraphError: One is named by something else than a text.
        SourceError: One is not there.
        TrustRefusedError: One lies elsewhere: a foreign graph could have any file of this machine copied.
    """
    if _PATHS_COLLECTION not in meta.collection_def:
        return []
    assets = []
    for name in meta.collection_def[_PATHS_COLLECTION].node_list.value:
        node = model.nodes.get(split_tensor(name)[0])
        if node is None or node.op != "Const":
            continue
        file = Path(*map(os.fsdecode, const_texts(node)[:1]))
        with foreign_errors(SourceError, f"{file}: the graph reads this file", catch=OSError):  # no name of a file
            there = file.is_file()
        if not there:
            raise SourceError(f"{file}: the graph reads this file, and it is missing")
        if "files" not in trust and not _lies_in(file, folder):
            raise TrustRefusedError(
                f"{file}: the graph reads this file, which is not in its folder {folder}",
                hint="put it beside the graph, or give --trust files where you trust who made it",
            )
        assets.append(Asset(node.name, file))
    return assets


def _lies_in(file: Path, folder: Place) -> bool:
    return isinstance(folder, Path) and file.resolve().is_relative_to(folder.resolve())
