"""Read frozen models without holding their weights in memory."""

from __future__ import annotations

import os
from pathlib import Path

from tpu2gpu.graphs.formats.detection import GRAPH_DEF, graph_kind
from tpu2gpu.graphs.formats.graph_def import FROZEN_GRAPH_FILE, read_graph_def
from tpu2gpu.graphs.formats.importing_first import not_frozen
from tpu2gpu.graphs.formats.lazy_constants import parsing, read_saved_model_file
from tpu2gpu.graphs.formats.saved_model import (
    SAVED_MODEL_FILE,
    VARIABLES_PREFIX,
    choose_meta_graph,
    parse_saved_model,
    read_meta_graph,
)
from tpu2gpu.graphs.model import ServingModel


def read_frozen(source: str | os.PathLike[str]) -> ServingModel:
    """Read a frozen model; its large constants are in `constants`, and have no value in the nodes.

    Args:
        source: A GraphDef's file, the folder of one that we wrote, or a SavedModel.

    Raises:
        SourceError: It is none of these, or damaged.
        SignatureError: It has nothing to give in or to get out.
    """
    path = Path(source)
    if path.is_file():
        if graph_kind(path) != GRAPH_DEF:
            raise not_frozen(path)
        return read_graph_def(path, light=True)
    file = path / SAVED_MODEL_FILE
    if (path / FROZEN_GRAPH_FILE).is_file() and not file.is_file():
        return read_graph_def(path / FROZEN_GRAPH_FILE, light=True)
    if not file.is_file() and not file.with_suffix(".pbtxt").is_file():
        raise not_frozen(path)
    return _read_saved_model(path, file)


def _read_saved_model(path: Path, file: Path) -> ServingModel:
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    with parsing(file, hint="freeze the model again"):
        constants = read_saved_model_file(file, saved_model) if file.is_file() else []
    if not constants:
        parse_saved_model(path)  # says what is wrong
    meta = choose_meta_graph(saved_model, path, elsewhere={name for found in constants for name in found})
    model = read_meta_graph(meta, path, path / VARIABLES_PREFIX)
    number = next(number for number, graph in enumerate(saved_model.meta_graphs) if graph is meta or graph == meta)
    model.constants = {name: it for name, it in constants[number].items() if name in model.nodes}
    return model
