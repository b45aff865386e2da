"""In which precision a model computes, and how far from its source it may be for that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tpu2gpu.running.opening import PLAN, graph_def_file

# From the coarsest to the finest. Largest |candidate - baseline| / largest |baseline|, and why so much. "Sound
# conversions" are ResNet, MobileNet, EfficientNet, LSTM and BERT graphs with realistic weights, in ONNX Runtime against
# TensorFlow on examples like those trained on. TF32 on a GPU rounds like float16: then 2e-2 is the limit to ask for.
LIMITS: dict[str, tuple[float, str]] = {
    "int8": (
        0.2,
        "256 levels, scaled by calibration: accuracy is the judge, this limit catches faults only",
    ),
    "bfloat16": (0.1, "8 significant bits round by 3.9e-3, 8 times as coarsely as float16"),
    "float16": (
        2e-2,
        "11 significant bits round by 4.9e-4; sound conversions of deep networks came to 5e-4 to 1.7e-2",
    ),
    "float32": (
        1e-4,
        "24 significant bits round by 6e-8; sound conversions, which sum in another order, came to 1e-7 to 7e-5",
    ),
    "float64": (1e-4, "as for float32, in which kernels may sum"),
}


def default_limit(*precisions: str) -> tuple[float, str]:
    """The largest relative error allowed between models of these precisions, with the reason.

    The coarsest decides.
    """
    worst = coarsest(precisions)
    limit, reason = LIMITS[worst]
    return limit, f"{worst}: {reason}"


def find_precision(path: str | os.PathLike[str]) -> str:
    """The coarsest number type in which a model computes: of a serving folder by its plan, else by its graph.

    Args:
        path: A model that a runner opens.
    """
    path = Path(path)
    if (path / PLAN).is_file():
        from tpu2gpu.running.local.serving_runner import read_plan

        return coarsest([read_plan(path).get("precision", "float32")])
    if (graph := graph_def_file(path)) is not None:
        return coarsest(_graph_def_types(graph))
    return coarsest(_onnx_types(path) if path.is_file() else _saved_model_types(path))


def coarsest(precisions: Iterable[str]) -> str:
    """The coarsest of some types; float32 where there are no numbers with a fraction among them."""
    found = set(precisions)
    return next((precision for precision in LIMITS if precision in found), "float32")


def _saved_model_types(path: Path) -> Iterator[str]:
    from tpu2gpu.graphs.formats.saved_model import choose_meta_graph, parse_saved_model

    graph = choose_meta_graph(parse_saved_model(path), path).graph_def
    return _node_types([graph.node, *(function.node_def for function in graph.library.function)])


def _graph_def_types(path: Path) -> Iterator[str]:
    from tpu2gpu.graphs.formats.graph_def import read_graph_def

    model = read_graph_def(path, light=True)
    return _node_types([model.nodes.values(), *(function.node_def for function in model.functions.values())])


def _node_types(graphs: Iterable[Iterable[Any]]) -> Iterator[str]:
    from tensorflow.core.framework import types_pb2

    names = {
        types_pb2.DT_BFLOAT16: "bfloat16",
        types_pb2.DT_HALF: "float16",
        types_pb2.DT_FLOAT: "float32",
        types_pb2.DT_DOUBLE: "float64",
    }
    for nodes in graphs:
        for node in nodes:
            if node.op.startswith("FakeQuant"):
                yield "int8"
            for attribute in node.attr.values():
                if attribute.WhichOneof("value") == "type" and attribute.type in names:
                    yield names[attribute.type]


def _onnx_types(path: Path) -> Iterator[str]:
    import onnx

    names = {
        onnx.TensorProto.BFLOAT16: "bfloat16",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.DOUBLE: "float64",
    }
    graph: Any = onnx.load(str(path), load_external_data=False).graph
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield "int8"
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in names:
                yield names[attribute.i]
    for tensor in graph.initializer:
        if tensor.data_type in names:
            yield names[tensor.data_type]
