"""Signatures, initialisers and assets name tensors that their graph has: TensorFlow refuses to load others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.soundness.graph import check_meta_graph

FLOAT, STRING = 1, 7


def _meta() -> Any:
    """Return y = -x, with a signature."""
    graph = graph_pb2.GraphDef()
    graph.node.extend([new_node("x", "Placeholder", dtype=FLOAT), new_node("y", "Neg", ["x"], T=FLOAT)])
    graph.node.extend([new_node("init", "NoOp"), new_node("path", "Placeholder", dtype=STRING)])
    meta = meta_graph_pb2.MetaGraphDef(graph_def=graph)
    _name(_served(meta).inputs["x"], "x:0")
    _name(_served(meta).outputs["y"], "y:0")
    return meta


def _served(meta: Any) -> Any:
    return meta.signature_def["serving_default"]


def _name(info: Any, tensor: str) -> None:
    info.name, info.dtype = tensor, FLOAT


def _make_sparse(info: Any) -> None:
    info.dtype = FLOAT
    for part in ("values", "indices", "dense_shape"):
        setattr(info.coo_sparse, f"{part}_tensor_name", "y:0")


def _add_asset(meta: Any, name: str, tensor: str) -> None:
    meta.asset_file_def.add(filename=name).tensor_info.name = tensor


def _add_assets(meta: Any) -> None:
    _add_asset(meta, "a", "path:0")
    _add_asset(meta, "b", "path:0")


WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "an output that the node has not": (
        lambda it: _name(_served(it).outputs["y"], "y:99"),
        "signature serving_default: y is y:99, but y has 1 outputs",
    ),
    "an output of a node that gives nothing": (
        lambda it: _name(_served(it).outputs["y"], "init"),
        "y is init, but init has 0 outputs",
    ),
    "two inputs of one tensor": (
        lambda it: _name(_served(it).inputs["x2"], "x"),
        "both feed x",
    ),
    "a sparse tensor with indices of another type": (
        lambda it: _make_sparse(_served(it).outputs["s"]),
        "s is y:0 as int64, which is float32",
    ),
    "an asset whose path is no text": (
        lambda it: _add_asset(it, "words.txt", "x:0"),
        "asset words.txt: its path is fed to x:0, which is no text",
    ),
    "two assets of one tensor": (_add_assets, "assets a and b are both fed to path:0"),
    "an initialiser that there is not": (
        lambda it: it.collection_def["saved_model_main_op"].node_list.value.append("nope"),
        "collection saved_model_main_op: runs nope, which there is not",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_graph_has_not_is_told(name: str) -> None:
    change, told = WRONG[name]
    meta = _meta()
    change(meta)
    with pytest.raises(GraphError) as caught:
        check_meta_graph(meta, "it")
    assert told in str(caught.value)


def test_what_the_graph_has_is_sound() -> None:
    meta = _meta()
    _add_asset(meta, "words.txt", "path:0")
    meta.collection_def["saved_model_main_op"].node_list.value.append("init")
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"
    _name(_served(meta).outputs["same"], "x:0")
    check_meta_graph(meta, "it")
