"""Weights that a user saved with `numpy.savez`, by the names of variables; `--graph` says which graph takes them."""

from __future__ import annotations

import re
from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import GRAPH_HINT, ImportedModel, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.contents import describe_weights
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SourceError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.archives import is_numpy_archive
from tpu2gpu.graphs.formats.numpy_headers import check_arrays
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.arrays import Arrays


@attrs.frozen
class NumpyWeights(WeightsFormat):
    """An `.npz` file."""

    kind = "npz"

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> NumpyWeights | None:
        """Find an archive of arrays alone."""
        return cls(path) if is_numpy_archive(path) else None

    def inspect(self) -> dict[str, Any]:
        """Report the arrays."""
        return describe_weights(self.open_weights())

    def read(self, options: ImportOptions) -> ImportedModel:
        """Refuse, for want of a graph."""
        raise UnsupportedError(f"{self.path}: holds arrays alone, and no model", hint=GRAPH_HINT)

    def open_weights(self) -> Arrays:
        """Open the archive; a name's `:0` is left out, and arrays are read when they are asked for."""
        import numpy as np

        file = self.path.open("rb")
        damaged = f"{self.path}: damaged, or holds Python objects"
        with foreign_errors(SourceError, damaged, hint="write it with numpy.savez, of arrays of numbers"):
            check_arrays(str(self.path), file)
            archive = np.load(file, allow_pickle=False)
            keys = {re.sub(r":\d+$", "", key): key for key in archive.files}
            entries = {name: (_dtype(self.path, key, archive[key]), archive[key].shape) for name, key in keys.items()}
        return Arrays(self.path, entries, lambda name: archive[keys[name]])


def _dtype(path: Place, key: str, array: Any) -> int:
    if array.dtype.name not in format.DTYPE_ENUMS:
        raise UnsupportedError(f"{path}: {key} holds {array.dtype.name}, which is no type of a weight")
    return format.DTYPE_ENUMS[array.dtype.name]
