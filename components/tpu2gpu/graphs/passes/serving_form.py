"""Makes a serving model of a graph that was brought to the form for serving."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.formats.saved_model import INIT_SIGNATURE, make_variables_resources
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel, map_tensors, tensor_names
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.passes.to_inference import InferenceGraph, Input, to_inference
from tpu2gpu.graphs.variables import find_variables

_PREDICT = "tensorflow/serving/predict"


@attrs.frozen
class Served:
    """A model that was brought to the form for serving.

    Attributes:
        model: The model.
        done: What its graph went through: kinds of change, and the nodes.
        batch: Examples in each step of training on one core, where the inputs tell.
    """

    model: ServingModel
    done: dict[str, list[str]]
    batch: int | None


def serve_meta_graph(
    meta: Any,
    source: str | os.PathLike[str],
    prefix: str | os.PathLike[str],
    inputs: list[Input] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Served:
    """Brings a MetaGraphDef to the form for serving, its signatures kept unless inputs or outputs are given.

    Args:
        meta: The MetaGraphDef.
        source: What errors call it.
        prefix: The checkpoint of its variables.
        inputs: Tensors to cut at.
        outputs: Tensors by name.

    Raises:
        GraphError: Something on the way to the outputs cannot serve, or the checkpoint does not fit.
        SignatureError: A named tensor is not there.
        UnsupportedError: There are tables beside the training graph.
        CheckpointError: The checkpoint is damaged.
    """
    inputs, outputs = list(inputs or ()), dict(outputs or {})
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    signatures = {
        name: signature
        for name, signature in sorted(meta.signature_def.items())
        if not name.startswith("__saved_model_") and signature.outputs
    }
    if inputs or outputs:
        signatures = {}
    for signature in signatures.values():
        for info in signature.inputs.values():
            for tensor in tensor_names(info):
                inputs = [*inputs, *([] if any(it.tensor == tensor for it in inputs) else [_as_input(info, tensor)])]
    wanted = {
        tensor: tensor for it in signatures.values() for info in it.outputs.values() for tensor in tensor_names(info)
    }
    graph = type(meta.graph_def)()
    graph.CopyFrom(meta.graph_def)
    served = to_inference(graph, ops, inputs, wanted or outputs)
    if INIT_SIGNATURE in meta.signature_def and any("Table" in node.op for node in served.nodes.values()):
        raise UnsupportedError(
            f"{source}: tables beside a training graph are not imported", hint="export a signature for serving"
        )
    model = ServingModel(
        nodes=served.nodes,
        functions=served.functions,
        signatures={},
        variables={},
        ops=ops,
        bundle=None,
        init_node="",
        assets=[],
        versions=meta.graph_def.versions,
        tensorflow_version=meta.meta_info_def.tensorflow_version,
    )
    model.signatures = {name: _kept(signature, served) for name, signature in signatures.items()}
    model.signatures = model.signatures or {DEFAULT_SIGNATURE: signature_of(served, ops)}
    make_variables_resources(model)
    clear_attributes(model)
    find_variables(model, meta, prefix)
    model.prune()
    done = {kind: nodes for kind, nodes in served.done.items() if kind != "phases_folded" or len(served.done) > 1}
    return Served(model, done or served.done, served.batch)


def clear_attributes(model: ServingModel) -> None:
    """Take away devices and the marks that compilers leave (`_tpu_replicate`, `_XlaMustCompile`, `_class`)."""
    for node in (*model.nodes.values(), *(node for body in model.functions.values() for node in body.node_def)):
        node.device = ""
        for attribute in [attribute for attribute in node.attr if attribute.startswith("_")]:
            del node.attr[attribute]


def signature_of(served: InferenceGraph, ops: OpDefs) -> Any:
    """The SignatureDef of a graph's inputs and outputs."""
    from tensorflow.core.protobuf import meta_graph_pb2

    signature = meta_graph_pb2.SignatureDef(method_name=_PREDICT)
    for name, (placeholder, dtype, shape) in served.inputs.items():
        info = signature.inputs[name]
        info.name, info.dtype = f"{placeholder}:0", dtype
        info.tensor_shape.unknown_rank = shape is None
        for size in shape or ():
            info.tensor_shape.dim.add(size=-1 if size is None else size)
    for name, tensor in served.outputs.items():
        node, index = split_tensor(tensor)
        slots = ops.outputs(served.nodes[node]) or []
        info = signature.outputs[name]
        info.name = f"{node}:{index}"
        info.dtype = slots[index].type_of(served.nodes[node]) if index < len(slots) else 0
        info.tensor_shape.unknown_rank = True
    return signature


def _as_input(info: Any, tensor: str) -> Input:
    return Input(_input_name(tensor), tensor, info.dtype)


def _input_name(tensor: str) -> str:
    node, index = split_tensor(tensor)
    return node if index == 0 else f"{node}_{index}"


def _kept(signature: Any, served: InferenceGraph) -> Any:
    """A signature whose tensors are those of the graph for serving."""
    kept = type(signature)()
    kept.CopyFrom(signature)
    for info in kept.inputs.values():
        map_tensors(info, lambda name: f"{served.inputs[_input_name(name)][0]}:0")
    for info in kept.outputs.values():
        map_tensors(info, lambda name: "{}:{}".format(*split_tensor(served.outputs[name])))
    return kept
