"""The files that a graph reads, such as vocabularies: where a model names them, and where they lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SourceError, TrustRefusedError
from tpu2gpu.graphs.edit import const_node, const_value
from tpu2gpu.graphs.model import Asset, ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.storage.confinement import file_inside
from tpu2gpu.storage.paths import Place

ASSETS_FOLDER = "assets"
_PATHS_COLLECTION = "asset_filepaths"
_FILES_COLLECTION = "saved_model_assets"  # where TensorFlow 1 told them before 1.13


def asset_files(meta: Any) -> dict[str, str]:
    """Return the file name of each asset of a SavedModel's graph, by the node that holds its path."""
    from tensorflow.core.protobuf import meta_graph_pb2

    entries = list(meta.asset_file_def)
    if not entries and _FILES_COLLECTION in meta.collection_def:
        for packed in meta.collection_def[_FILES_COLLECTION].any_list.value:
            entry = meta_graph_pb2.AssetFileDef()
            packed.Unpack(entry)
            entries.append(entry)
    return {split_tensor(entry.tensor_info.name)[0]: entry.filename for entry in entries}


def take_assets(meta: Any, source: Place, nodes: dict[str, Any]) -> list[Asset]:
    """Return the assets of a SavedModel that its flat graph reads.

    Raises:
        SourceError: One is missing, a link, or outside the folder of assets.
    """
    assets = []
    for node, name in asset_files(meta).items():
        if node not in nodes:
            continue
        assets.append(Asset(node, file_inside(source / ASSETS_FOLDER, name, f"{source}: asset")))
        # TensorFlow 2 has a placeholder where loaders of flat graphs want a constant to feed.
        if nodes[node].op == "Placeholder":
            nodes[node] = const_node(node, name)
    return assets


def take_named_files(meta: Any, model: ServingModel, folder: Place, trust: Sequence[str]) -> list[Asset]:
    """Return the files that a graph of TensorFlow 1 names by their paths.

    Args:
        meta: The graph.
        model: The flat graph.
        folder: Where they may lie.
        trust: With `files` they may lie anywhere.

    Raises:
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
        file = Path(os.fsdecode(const_value(node).item()))
        if not file.is_file():
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
