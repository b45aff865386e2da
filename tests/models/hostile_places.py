"""Small SavedModels that hold a node in each place from which loading or serving would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.models.ops_by_definition import MadeNode, make_node, named_function

_FLOAT, _INT32, _STRING, _INT64 = 1, 3, 7, 9
_ASSET = "words.txt"


def hostile_model(folder: Path, op: str, place: str, text: bytes) -> Path:
    """Write a SavedModel of y = 2 x that runs an op in a place, with one text in the place of all its texts."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    graph = meta.graph_def
    graph.versions.producer = 1500
    graph.library.function.add().CopyFrom(named_function())
    _add(graph.node, "x", "Placeholder", dtype=_FLOAT).attr["shape"].shape.dim.add().size = -1
    _constant(graph.node, "two", 2.0, _FLOAT)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    _info(signature.inputs["x"], "x:0", _FLOAT)
    y = PLACES[place](meta, op, text)
    _add(graph.node, "y", "Mul", y, "two", *(["^hidden"] if place == "control edge of an output" else []), T=_FLOAT)
    _info(signature.outputs["y"], "y:0", _FLOAT)
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / _ASSET).write_text("one\ntwo\n")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def _graph(meta: Any, op: str, text: bytes) -> str:
    """Give what the op gives as an output of the signature."""
    made = _hide(meta, op, text)
    if made.dtype in (_FLOAT, _INT32, _STRING, _INT64):
        _info(meta.signature_def["serving_default"].outputs["z"], made.output[0], made.dtype, any_shape=True)
        return "x"
    _add(meta.graph_def.node, "waits", "Identity", "x", "^hidden", T=_FLOAT)
    return "waits"


def _control_edge(meta: Any, op: str, text: bytes) -> str:
    _hide(meta, op, text)
    return "x"


def _function(meta: Any, op: str, text: bytes) -> str:
    name = _body(meta, op, text)
    node = _add(meta.graph_def.node, "called", "StatefulPartitionedCall", "x")
    _types(node, Tin=[_FLOAT], Tout=[_FLOAT])
    node.attr["f"].func.name = name
    return "called"


def _while(meta: Any, op: str, text: bytes) -> str:
    body = _body(meta, op, text)
    again = _new_function(meta, "again", [("v", _FLOAT)], "b", 10)
    _constant(again.node_def, "no", False, 10)
    again.ret["b"] = "no:output:0"
    node = _add(meta.graph_def.node, "loop", "While", "x")
    _types(node, T=[_FLOAT])
    node.attr["cond"].func.name, node.attr["body"].func.name = "again", body
    return "loop"


def _if(meta: Any, op: str, text: bytes) -> str:
    body = _body(meta, op, text)
    other = _new_function(meta, "other", [("v", _FLOAT)], "w", _FLOAT)
    _add(other.node_def, "same", "Identity", "v", T=_FLOAT)
    other.ret["w"] = "same:output:0"
    _constant(meta.graph_def.node, "choice", value=True, dtype=10)
    node = _add(meta.graph_def.node, "branch", "If", "choice", "x", Tcond=10)
    _types(node, Tin=[_FLOAT], Tout=[_FLOAT])
    node.attr["then_branch"].func.name, node.attr["else_branch"].func.name = body, "other"
    return "branch"


def _data_set(meta: Any, op: str, text: bytes) -> str:
    body = _body(meta, op, text)
    first = _add(meta.graph_def.node, "data", "TensorDataset", "x")
    _types(first, Toutput_types=[_FLOAT])
    mapped = _add(meta.graph_def.node, "mapped", "MapDataset", "data")
    mapped.attr["f"].func.name = body
    _types(mapped, Targuments=[], output_types=[_FLOAT])
    only = _add(meta.graph_def.node, "only", "DatasetToSingleElement", "mapped")
    _types(only, output_types=[_FLOAT])
    for node, name in ((first, "output_shapes"), (mapped, "output_shapes"), (only, "output_shapes")):
        node.attr[name].list.shape.add().dim.add().size = -1
    return "only"


def _run_by(register: Callable[[Any], None]) -> Callable[[Any, str, bytes], str]:
    def place(meta: Any, op: str, text: bytes) -> str:
        _hide(meta, op, text)
        register(meta)
        return "x"

    return place


def _in_collection(name: str) -> Callable[[Any, str, bytes], str]:
    return _run_by(lambda meta: meta.collection_def[name].node_list.value.append("hidden"))


def _init_signature(meta: Any) -> None:
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "hidden"


def _table(meta: Any, op: str, text: bytes) -> str:
    """Fill a table from the asset, or from the file whose name the op gives."""
    nodes, made = meta.graph_def.node, _hide(meta, op, text)
    table = _add(nodes, "table", "HashTableV2", key_dtype=_STRING, value_dtype=_INT64)
    table.attr["shared_name"].s = b"table"
    _constant(nodes, "asset", _ASSET, _STRING)
    info = meta.asset_file_def.add(filename=_ASSET)
    info.tensor_info.name = "asset:0"
    file = made.output[0] if made.dtype == _STRING else "asset"
    filling = _add(nodes, "filling", "InitializeTableFromTextFileV2", "table", file, "^hidden")
    for name, value in (("key_index", -2), ("value_index", -1), ("vocab_size", -1), ("offset", 0)):
        filling.attr[name].i = value
    filling.attr["delimiter"].s = b"\t"
    meta.collection_def["legacy_init_op"].node_list.value.append("filling")
    _constant(nodes, "word", "one", _STRING)
    _constant(nodes, "none", -1, _INT64)
    _add(nodes, "found", "LookupTableFindV2", "table", "word", "none", Tin=_STRING, Tout=_INT64)
    _add(nodes, "number", "Cast", "found", SrcT=_INT64, DstT=_FLOAT)
    _add(nodes, "sum", "AddV2", "x", "number", T=_FLOAT)
    return "sum"


PLACES: dict[str, Callable[[Any, str, bytes], str]] = {
    "graph": _graph,
    "control edge of an output": _control_edge,
    "called function": _function,
    "body of a loop": _while,
    "branch": _if,
    "function of a data set": _data_set,
    "legacy init op": _in_collection("legacy_init_op"),
    "main op": _in_collection("saved_model_main_op"),
    "table initialiser": _in_collection("table_initializer"),
    "init signature": _run_by(_init_signature),
    "table of an asset": _table,
}
"""By place: what puts the op into a MetaGraphDef, and returns what becomes of x there."""


def _hide(meta: Any, op: str, text: bytes) -> MadeNode:
    made = make_node(op, text)
    meta.graph_def.node.extend(made.nodes)
    return made


def _body(meta: Any, op: str, text: bytes) -> str:
    """Add a function that gives its argument once the op has run."""
    function = _new_function(meta, "hiding", [("v", _FLOAT)], "w", _FLOAT)
    function.node_def.extend(make_node(op, text, in_function=True).nodes)
    _add(function.node_def, "same", "Identity", "v", "^hidden", T=_FLOAT)
    function.ret["w"] = "same:output:0"
    return "hiding"


def _new_function(meta: Any, name: str, arguments: Sequence[tuple[str, int]], result: str, dtype: int) -> Any:
    function = meta.graph_def.library.function.add()
    function.signature.name = name
    for argument, kind in arguments:
        function.signature.input_arg.add(name=argument, type=kind)
    function.signature.output_arg.add(name=result, type=dtype)
    return function


def _add(nodes: Any, name: str, op: str, *inputs: str, **types: int) -> Any:
    node = nodes.add(name=name, op=op, input=inputs)
    for attribute, kind in types.items():
        node.attr[attribute].type = kind
    return node


def _types(node: Any, **types: Sequence[int]) -> None:
    for attribute, kinds in types.items():
        node.attr[attribute].list.type.extend(kinds)
        node.attr[attribute].list.SetInParent()


def _constant(nodes: Any, name: str, value: Any, dtype: int) -> None:
    import tensorflow as tf

    _add(nodes, name, "Const", dtype=dtype).attr["value"].tensor.CopyFrom(
        tf.make_tensor_proto(value, tf.as_dtype(dtype))
    )


def _info(info: Any, name: str, dtype: int, *, any_shape: bool = False) -> None:
    info.name, info.dtype = name, dtype
    if any_shape:
        info.tensor_shape.unknown_rank = True
    else:
        info.tensor_shape.dim.add().size = -1
