"""TensorFlow's checkpoints, with the training graph beside them (`.meta`) or another one."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import GRAPH_HINT, ImportedModel, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.contents import describe_training_graph, describe_weights
from tpu2gpu.checkpoint_importer.formats.meta_graph import serve_training_graph
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.formats.detection import find_checkpoint, meta_graph_file
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle.arrays import Arrays
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.version1 import read_version1


@attrs.frozen
class Checkpoint(WeightsFormat):
    """A checkpoint, by its prefix.

    Attributes:
        others: Other checkpoints of the training folder; None where a single checkpoint was given.
    """

    others: tuple[str, ...] | None = None

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> Checkpoint | None:
        """Find the checkpoint that a path or a training folder means."""
        found = find_checkpoint(path, step)
        if found is None:
            return None
        kind = BundleCheckpoint if found.is_bundle else FirstFormatCheckpoint
        return kind(found.prefix, found.step, found.others)

    @property
    def meta(self) -> Place:
        """The MetaGraphDef beside it, whether there is one or not."""
        return meta_graph_file(self.path)

    def inspect(self) -> dict[str, Any]:
        """Report tensors, other checkpoints of the folder, and the training graph beside them."""
        report = describe_weights(self.open_weights())
        if self.others is not None:
            report["checkpoints"] = [self.path.name, *self.others]
        return report | (describe_training_graph(parse_graph_file(self.meta)) if self.meta.is_file() else {})

    def read(self, options: ImportOptions) -> ImportedModel:
        """Serve the training graph beside the checkpoint."""
        if not self.meta.is_file():
            raise UnsupportedError(
                f"{self.path}: a bare checkpoint has no graph ({self.meta.name} is missing)",
                hint=GRAPH_HINT,
            )
        return self.load_weights(self, options)

    def load_weights(self, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
        """Serve the training graph beside the checkpoint with other weights."""
        if not self.meta.is_file():
            return super().load_weights(weights, options)
        return serve_training_graph(parse_graph_file(self.meta), weights, options)


@attrs.frozen
class BundleCheckpoint(Checkpoint):
    """A checkpoint as TensorFlow writes it today."""

    kind = "checkpoint"

    def open_weights(self) -> Bundle:
        """Open the bundle."""
        return Bundle(self.path)


@attrs.frozen
class FirstFormatCheckpoint(Checkpoint):
    """A checkpoint in the format before bundles."""

    kind = "checkpoint_v1"

    def open_weights(self) -> Arrays:
        """Open the tables."""
        return read_version1(self.path)
