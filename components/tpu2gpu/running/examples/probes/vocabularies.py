"""The keys of a graph's tables."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.functions.following import Following, Tensor
from tpu2gpu.graphs.model import ServingModel

_FILE_KEYS = 256  # read of a vocabulary's file
_WHOLE_LINE = -2  # TensorFlow's number for a column that is the line itself


def table_keys(model: ServingModel, following: Following, table: Tensor) -> list[Any]:
    """Return the keys with which a table is filled, as bytes or numbers; none where that cannot be told."""
    for use in following.uses(Tensor(following.top, table.node, table.index)):
        if use.node.op in ("LookupTableImportV2", "LookupTableImport", "InitializeTableV2", "InitializeTable"):
            keys = following.constant(use.scope, use.node, 1)
            if keys is not None:
                return [bytes(key) if keys.dtype == object else key.item() for key in keys.ravel()]
        if use.node.op in ("InitializeTableFromTextFileV2", "InitializeTableFromTextFile"):
            return _file_keys(model, use.node)
    return []


def _file_keys(model: ServingModel, node: Any) -> list[Any]:
    """Return the first keys of a vocabulary's file; none where its keys are the numbers of lines."""
    path = next((asset.path for asset in model.assets if asset.node == node.input[1].partition(":")[0]), None)
    column = node.attr["key_index"].i
    if path is None or column == -1:
        return []
    delimiter = node.attr["delimiter"].s or b"\t"
    lines = path.read_bytes().splitlines()[:_FILE_KEYS]
    return lines if column == _WHOLE_LINE else [line.split(delimiter)[column] for line in lines]
