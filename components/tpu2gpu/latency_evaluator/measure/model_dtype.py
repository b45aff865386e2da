"""The number type that a model computes in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.running.comparison.tolerances import coarsest
from tpu2gpu.running.local.graph_def_runner import graph_def_file
from tpu2gpu.running.serving_plan import PLAN, read_plan


def find_dtype(path: str | os.PathLike[str]) -> str:
    """Find the coarsest number type that a model computes in: of a serving folder by its plan, else by its graph.

    Args:
        path: A model that a runner opens.
    """
    path = Path(path)
    if (path / PLAN).is_file():
        return coarsest([read_plan(path).dtype])
    if (graph := graph_def_file(path)) is not None:
        return coarsest(_graph_def_types(graph))
    return coarsest(_onnx_types(path) if path.is_file() else _saved_model_types(path))


def _saved_model_types(path: Path) -> Iterator[str]:
    from tpu2gpu.graphs.formats.saved_model import serving_meta_graph

    graph = serving_meta_graph(path).graph_def
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
    with foreign_errors(SourceError, f"{path}: damaged", hint="give a file that nothing writes to"):
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
