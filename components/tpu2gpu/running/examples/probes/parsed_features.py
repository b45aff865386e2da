"""The features that a graph parses of serialized tf.Examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tpu2gpu.graphs.functions.following import Following, Tensor, Use
from tpu2gpu.graphs.ops import DT_STRING
from tpu2gpu.running.examples.probes.domain import Domain, FeatureForm, RecordForm

PARSERS = ("ParseExample", "ParseExampleV2", "ParseSingleExample")
"""The operations that parse serialized tf.Examples; their first input takes them."""

_FLOATS = (1, 2, 14, 19)  # float32, float64, bfloat16, float16: only float32 occurs in TensorFlow's own


def parses(node: Any, position: int) -> bool:
    """Tell whether a node parses its input of this position as tf.Examples."""
    return node.op in PARSERS and position == 0


def parsed_form(following: Following, use: Use, domain: Callable[[Tensor], Domain]) -> RecordForm:
    """Return the features that a parser reads.

    Args:
        following: The graph.
        use: The parser.
        domain: What finds the values that a tensor is made for.
    """
    features = {}
    for key, output, dtype, count in _entries(following, use):
        kind = "float_list" if dtype in _FLOATS else "bytes_list" if dtype == DT_STRING else "int64_list"
        features[key] = FeatureForm(kind, count, domain(Tensor(use.scope, use.node.name, output)))
    return RecordForm(features)


def _entries(following: Following, use: Use) -> Iterable[tuple[str, int, int, int | None]]:
    """Return for each feature its key, the output with its values, their type, and how many there are."""
    node, op = use.node, use.node.op
    sparse = list(node.attr["sparse_types"].list.type)
    dense = list(node.attr["Tdense"].list.type)
    ragged = list(node.attr["ragged_value_types"].list.type)
    if op == "ParseSingleExample":
        named = (node.attr["sparse_keys"].list.s, node.attr["dense_keys"].list.s)
        sparse_keys, dense_keys = ([key.decode(errors="backslashreplace") for key in keys] for keys in named)
        ragged_keys: list[str] = []
    elif op == "ParseExample":
        sparse_keys = [key for place in range(len(sparse)) for key in _keys(following, use, 2 + place)]
        dense_keys = [key for place in range(len(dense)) for key in _keys(following, use, 2 + len(sparse) + place)]
        ragged_keys = []
    else:
        sparse_keys, dense_keys, ragged_keys = (_keys(following, use, position) for position in (2, 3, 4))
    for place, (key, dtype) in enumerate(zip(sparse_keys, sparse, strict=False)):
        yield key, len(sparse) + place, dtype, None
    for place, (key, dtype, shape) in enumerate(
        zip(dense_keys, dense, node.attr["dense_shapes"].list.shape, strict=False)
    ):
        sizes = [dim.size for dim in shape.dim]
        yield key, 3 * len(sparse) + place, dtype, None if min(sizes, default=1) < 0 else int(np.prod(sizes))
    for place, (key, dtype) in enumerate(zip(ragged_keys, ragged, strict=False)):
        yield key, 3 * len(sparse) + len(dense) + place, dtype, None


def _keys(following: Following, use: Use, position: int) -> list[str]:
    found = following.constant(use.scope, use.node, position)
    return [] if found is None else [bytes(key).decode(errors="backslashreplace") for key in found.ravel()]
