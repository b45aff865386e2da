"""Graphs of any number of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_chain(folder: str, size: str) -> None:
    """Write a graph of so many operations, one after the other."""
    graph, node = _graph()
    for number in range(int(size)):
        node = _add(graph.node, f"relu{number}", "Relu", node.name)
    _save(Path(folder), graph, node.name)


def _graph() -> tuple[Any, Any]:
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.versions.producer = 1882
    node = graph.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = 1
    node.attr["shape"].shape.dim.add(size=-1)
    node.attr["shape"].shape.dim.add(size=4)
    return graph, node


def _add(nodes: Any, name: str, op: str, *inputs: str) -> Any:
    node = nodes.add(name=name, op=op, input=inputs)
    node.attr["T"].type = 1
    return node


def _save(folder: Path, graph: Any, output: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved_model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(graph)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for infos, key, name in ((signature.inputs, "x", "x"), (signature.outputs, "y", output)):
        infos[key].name, infos[key].dtype = f"{name}:0", 1
        infos[key].tensor_shape.dim.add(size=-1)
        infos[key].tensor_shape.dim.add(size=4)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "saved_model.pb").write_bytes(saved_model.SerializeToString())
