"""The source formats, in the order in which a path is held against them."""

from __future__ import annotations

import os

from tpu2gpu.checkpoint_importer.formats.base import SourceFormat
from tpu2gpu.checkpoint_importer.formats.checkpoint import Checkpoint
from tpu2gpu.checkpoint_importer.formats.graph_def import GraphDef
from tpu2gpu.checkpoint_importer.formats.keras import KerasArchive, KerasHdf5
from tpu2gpu.checkpoint_importer.formats.meta_graph import MetaGraph
from tpu2gpu.checkpoint_importer.formats.numpy_weights import NumpyWeights
from tpu2gpu.checkpoint_importer.formats.saved_model import SavedModel
from tpu2gpu.graphs.formats.detection import unknown_source
from tpu2gpu.storage.paths import place

FORMATS: tuple[type[SourceFormat], ...] = (
    SavedModel,
    Checkpoint,
    KerasArchive,
    KerasHdf5,
    NumpyWeights,
    GraphDef,
    MetaGraph,
)


def find_source(source: str | os.PathLike[str], step: int | None = None) -> SourceFormat:
    """Find what lies at a path, in whichever format.

    Args:
        source: A folder, a file, or a checkpoint's prefix.
        step: The step of training that is wanted; the newest when not given.

    Raises:
        SourceError: Nothing is there, nothing that we know, or no checkpoint of this step.
    """
    path = place(source)
    for format_ in FORMATS:
        if (found := format_.detect(path, step)) is not None:
            return found
    raise unknown_source(path)
