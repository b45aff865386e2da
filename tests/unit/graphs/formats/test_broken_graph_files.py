"""Graphs as text that are nested without end are refused, and texts and messages in graphs that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import CheckpointError, GraphError, SourceError
from tpu2gpu.graphs.assets import asset_files, take_named_files
from tpu2gpu.graphs.edit import const_node
from tpu2gpu.graphs.formats.checkpoint_tensors import object_graph
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file
from tpu2gpu.graphs.formats.restore_ops import restored_variables
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter


@pytest.mark.parametrize("name", ["graph.pbtxt", "graph.pb", "model.meta"])
def test_a_text_nested_without_end_is_no_graph(name: str, tmp_path: Path) -> None:
    depth = 1000
    inner = 'func { attr { key: "k" value { ' * depth + "} } } " * depth
    (tmp_path / name).write_text(f'node {{ name: "a" op: "NoOp" attr {{ key: "k" value {{ {inner} }} }} }}')
    with pytest.raises(SourceError, match="neither a MetaGraphDef"):
        parse_graph_file(tmp_path / name)


@pytest.mark.parametrize("names", [np.int32([0, 1]), np.float32(1), np.array([b"one"], object), np.zeros(0, "S1")])
def test_a_saver_lists_texts_and_enough_of_them(names: Any) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    meta.saver_def.restore_op_name = "all"
    nodes = meta.graph_def.node
    nodes.append(const_node("names", names))
    nodes.append(const_node("slices", np.array([b"", b""], object)))
    nodes.add(name="file", op="Placeholder")
    nodes.add(name="restore", op="RestoreV2", input=["file", "names", "slices"])
    for number in range(2):
        nodes.add(name=f"variable{number}", op="VariableV2")
        nodes.add(name=f"assign{number}", op="Assign", input=[f"variable{number}", f"restore:{number}"])
    nodes.add(name="all", op="NoOp", input=["^assign0", "^assign1"])
    with pytest.raises(GraphError, match=r"no constant of texts|a saver wants one more"):
        restored_variables(meta, OpDefs())


@pytest.mark.parametrize("value", [np.int32(7), np.float32([1, 2])])
def test_a_file_is_named_by_a_text(value: Any, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    meta.collection_def["asset_filepaths"].node_list.value.append("file:0")
    nodes = {"file": const_node("file", value)}
    model = ServingModel(nodes, {}, {}, {}, OpDefs(), None, "", [], None, "")
    with pytest.raises(GraphError, match="'file': no constant of texts"):
        take_named_files(meta, model, tmp_path, [])


@pytest.mark.parametrize("name", [b"x" * 300, b"a/" * 3000, b"a\0b", b"\xff"])
def test_a_text_that_is_no_name_of_a_file_is_no_file(name: bytes, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    meta.collection_def["asset_filepaths"].node_list.value.append("file:0")
    nodes = {"file": const_node("file", np.array(name, object))}
    model = ServingModel(nodes, {}, {}, {}, OpDefs(), None, "", [], None, "")
    with pytest.raises(SourceError, match="the graph reads this file"):
        take_named_files(meta, model, tmp_path, [])


def test_a_list_of_assets_that_is_damaged_is_named() -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    packed = meta.collection_def["saved_model_assets"].any_list.value.add()
    packed.type_url, packed.value = "type.googleapis.com/tensorflow.AssetFileDef", b"\xff\xff"
    with pytest.raises(SourceError, match=r"list of assets \(saved_model_assets\) is damaged"):
        asset_files(meta)


@pytest.mark.parametrize("value", [np.array(b"\xff\xff", object), np.array([b"", b""], object), np.float32(1)])
def test_an_object_graph_that_is_damaged_is_named(value: Any, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "model") as writer:
        writer.add_array(OBJECT_GRAPH_KEY, np.asarray(value))
    with pytest.raises(CheckpointError, match="model: its object graph is damaged"):
        object_graph(Bundle(tmp_path / "model"))
