"""Name what comes out of infeeds and iterators as the graph's own parsing of tf.Examples calls the features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.edit import const_texts
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.graphs.ops import DT_INT32, DT_INT64

_PARSERS = ("ParseExampleDataset", "ParseExampleDatasetV2", "ParseSingleExample", "ParseExampleV2")
_INTEGERS = (DT_INT32, DT_INT64)

# Type and sizes of a feature; None for sizes that are not known.
_Kind = tuple[int, "tuple[int, ...] | None"]


def feature_names(nodes: Iterable[Any], functions: Mapping[str, Any], feed: Any) -> list[str]:
    """Return the names of a feed's tensors, in their order; none where the graph does not tell them.

    A data set gives the features of a dictionary in the order of their names. They are told where one parser, in the
    graph or in a data set's function, has as many as the feed, of the same types and sizes.

    Args:
        nodes: The nodes of the graph.
        functions: Its functions, by name.
        feed: An infeed or iterator, with the types and shapes of what it gives.
    """
    given = _given(feed)
    told = set()
    for scope in (nodes, *(function.node_def for function in functions.values())):
        by_name = {node.name: node for node in scope}
        for features in (_features(node, by_name) for node in by_name.values() if node.op in _PARSERS):
            if features and _fit([features[key] for key in sorted(features)], given):
                told.add(tuple(sorted(features)))
    return list(told.pop()) if len(told) == 1 else []


def _texts(keys: Iterable[bytes]) -> list[str]:
    return [key.decode(errors="backslashreplace") for key in keys]


def _features(parser: Any, nodes: Mapping[str, Any]) -> dict[str, _Kind]:
    """Return the dense features that a parser gives, nothing for one with others."""
    keys = _texts(parser.attr["dense_keys"].list.s)
    if parser.op == "ParseExampleV2":  # its keys are constants
        source = nodes.get(data_inputs(parser)[3].partition(":")[0])
        keys = _texts(const_texts(source)) if source and source.op == "Const" else []
    sparse = any(parser.attr[name].list.type for name in ("sparse_types", "ragged_value_types"))
    types, shapes = parser.attr["Tdense"].list.type, parser.attr["dense_shapes"].list.shape
    if sparse or not keys or not len(keys) == len(types) == len(shapes):
        return {}
    return {key: (dtype, _sizes(shape)) for key, dtype, shape in zip(keys, types, shapes, strict=True)}


def _given(feed: Any) -> list[_Kind]:
    types = feed.attr["dtypes"].list.type or feed.attr["output_types"].list.type
    shapes = feed.attr["shapes"].list.shape or feed.attr["output_shapes"].list.shape
    if len(types) != len(shapes):
        return []
    sizes = [_sizes(shape) for shape in shapes]
    return [(dtype, None if it is None else it[1:]) for dtype, it in zip(types, sizes, strict=True)]


def _fit(features: list[_Kind], given: list[_Kind]) -> bool:
    """Tell whether features are what a feed gives; a TPU's input turns integers of 64 bits into such of 32."""
    return len(features) == len(given) and all(
        (dtype == other or {dtype, other} <= set(_INTEGERS)) and sizes is not None and sizes == known
        for (dtype, sizes), (other, known) in zip(features, given, strict=True)
    )


def _sizes(shape: Any) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
