"""Models whose weights are more than one protobuf message holds, 2 GB: they are converted without them.

tf2onnx takes constants whose values lie beside the graph, and gives tensors whose values lie beside the model; those
become ONNX's external data, in one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.running.local.external_data import DATA_SUFFIX
from tpu2gpu.trt_converter.onnx.validate import nodes_of

PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
_SMALL_BYTES = 1024  # stay in the model: shapes, axes, numbers
_PAGE_BYTES = 4096  # where a tensor begins, so that a runtime can map it


@attrs.define
class OnnxModel:
    """An ONNX model, and the values that are not in it.

    Attributes:
        proto: The ModelProto.
        values: For each tensor that refers to a file of this name, its bytes.
        quantised: What became of each operation that emulates 8 bits: `int8`, or why it stays in floating point.
    """

    proto: Any = attrs.field(repr=False)
    values: dict[str, bytes] = attrs.field(factory=dict, repr=False)
    quantised: dict[str, str] = attrs.field(factory=dict)

    def size_bytes(self) -> int:
        """Return its size with all its values."""
        return int(self.proto.ByteSize()) + sum(len(value) for value in self.values.values())


def without_values(graph_def: Any) -> tuple[Any, dict[str, bytes]]:
    """Take large constants out of a graph.

    Returns:
        The graph, which can be imported and serialised, and the constants' bytes by name.
    """
    from tf2onnx.tf_utils import compress_graph_def

    values = dict(compress_graph_def(graph_def))
    _pass_by_identities(graph_def)
    light = type(graph_def)()  # the old one's memory is free only when all of it is
    light.CopyFrom(graph_def)
    return light, values


def _pass_by_identities(graph_def: Any) -> None:
    """Let what takes a constant through identities take it at once.

    tf2onnx makes an LSTM of a loop only where it sees the constants; TensorFlow's optimiser does this otherwise.
    """
    sources = {node.name: node.input[0] for node in graph_def.node if node.op == "Identity"}
    constants = {node.name for node in graph_def.node if node.op == "Const"}

    def origin(reference: str) -> str:
        name = reference.removesuffix(":0")
        while name in sources:
            name = sources[name].removesuffix(":0")
        return name if name in constants else reference

    for node in graph_def.node:
        node.input[:] = [origin(reference) for reference in node.input]


def convert_without_values(
    graph_def: Any,
    values: dict[str, bytes],
    *,
    input_names: list[str],
    output_names: list[str],
    opset: int,
    tensors_to_rename: Mapping[str, str],
) -> OnnxModel:
    """Convert a graph that `without_values` gave, as `tf2onnx.convert.from_graph_def` converts others.

    It leaves TensorFlow's own optimiser out, which would need the values in the graph.
    """
    import numpy as np
    import tensorflow as tf
    from tf2onnx import optimizer
    from tf2onnx.graph import ExternalTensorStorage
    from tf2onnx.tfonnx import process_tf_graph

    vars(np).setdefault("product", np.prod)  # tf2onnx 1.17 calls it by the name that NumPy 2 dropped
    storage = ExternalTensorStorage()
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        converted = process_tf_graph(
            graph,
            const_node_values=values,
            input_names=input_names,
            output_names=output_names,
            opset=opset,
            tensors_to_rename=tensors_to_rename,
        )
        values.clear()  # the nodes have copies
        optimized = optimizer.optimize_graph(converted, False)
        proto = optimized.make_model("model", external_tensor_storage=storage)
    return OnnxModel(proto, storage.name_to_tensor_data)


def write_model(model: OnnxModel, path: Path, *, limit_bytes: int = PROTOBUF_LIMIT_BYTES) -> int:
    """Write a model, with its weights in `<path>.data` where the file would be larger than the limit.

    Args:
        model: The model; its tensors refer to that file then, and no longer to `values`.
        path: The ONNX file.
        limit_bytes: How large it may be.

    Returns:
        The size of both files together.
    """
    size_bytes = 0
    if model.values or model.size_bytes() > limit_bytes:
        size_bytes = _write_values(model, path.with_name(path.name + DATA_SUFFIX))
    path.write_bytes(model.proto.SerializeToString(deterministic=True))
    return size_bytes + path.stat().st_size


def _write_values(model: OnnxModel, path: Path) -> int:
    """Write all large values one after the other, in the order of the graph."""
    from onnx import TensorProto

    with path.open("wb") as file:
        for tensor in tensors_of(model.proto.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                value = model.values.pop(tensor.external_data[0].value)  # each is one tensor's
            elif len(tensor.raw_data) > _SMALL_BYTES:
                value = tensor.raw_data
            else:
                continue
            file.write(bytes(-file.tell() % _PAGE_BYTES))
            about = {"location": path.name, "offset": str(file.tell()), "length": str(len(value))}
            file.write(value)
            tensor.ClearField("raw_data")
            tensor.ClearField("external_data")
            for key, text in about.items():
                tensor.external_data.add(key=key, value=text)
            tensor.data_location = TensorProto.EXTERNAL
        return file.tell()


def tensors_of(graph: Any) -> Iterator[Any]:
    """Walk the constants of a graph and of the bodies of its loops and branches."""
    yield from graph.initializer
    for node in nodes_of(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from body.initializer
