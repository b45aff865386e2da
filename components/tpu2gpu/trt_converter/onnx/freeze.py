"""A SavedModel's signature as one GraphDef without variables, whose inputs and outputs go by known names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tpu2gpu.errors import ConversionError, GraphError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.describing import size_bytes
from tpu2gpu.graphs.edit import free_name, set_inputs
from tpu2gpu.graphs.formats.graph_def import build_graph_def
from tpu2gpu.graphs.formats.saved_model import read_saved_model, serving_meta_graph
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.passes.base import Sequential
from tpu2gpu.graphs.passes.freezing.freeze_variables import FreezeVariables
from tpu2gpu.running.examples.probes.probes import specs_of
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.trt_converter.onnx.external_data import PROTOBUF_LIMIT_BYTES, without_values

_NODES_SHOWN = 5
_TENSORFLOW_1 = {"VariableV2", "Variable", "Enter", "RefEnter"}


@attrs.frozen
class FrozenGraph:
    """A graph whose weights are constants.

    Attributes:
        graph_def: The graph.
        inputs: For each input of the signature its tensor (`name:0`).
        outputs: For each output of the signature a tensor that is its alone, and no input.
        input_specs: The signature's inputs, where the model's file alone tells them.
        output_specs: Its outputs.
        values: For each constant whose value is not in the graph, because all together are too many, its bytes.
    """

    graph_def: Any = attrs.field(repr=False)
    inputs: dict[str, str]
    outputs: dict[str, str]
    input_specs: Sequence[TensorSpec] = ()
    output_specs: Sequence[TensorSpec] = ()
    values: dict[str, bytes] = attrs.field(factory=dict, repr=False)


def frozen_graph(
    source: str, signature: str, load: Callable[[], SavedModelRunner], *, limit_bytes: int = PROTOBUF_LIMIT_BYTES
) -> FrozenGraph:
    """Freeze a signature.

    Variables become constants as the Freezer makes them; where our reader or that refuses the model, TensorFlow does
    it.

    Args:
        source: The SavedModel's folder.
        signature: The signature.
        load: Loads the same model in TensorFlow.
        limit_bytes: How large the weights may be; they are left out of the graph beyond.

    Raises:
        ConversionError: Neither can freeze it.
        CheckpointError: The variables are damaged.
    """
    try:
        model = read_saved_model(source)
        model.keep_signatures([signature])
        Sequential([FreezeVariables()]).run(model)
    except (GraphError, UnsupportedError):
        runner = load()
        frozen = _frozen_by_tensorflow(source, signature, runner, limit_bytes=limit_bytes)
        weights_size_bytes = _variables_size_bytes(runner)
    else:
        definition = model.signatures[signature]
        frozen = _with_own_outputs(build_graph_def(model), definition)
        inputs, outputs = specs_of(definition.inputs), specs_of(definition.outputs)
        frozen = attrs.evolve(frozen, input_specs=inputs, output_specs=outputs)
        weights_size_bytes = sum(size_bytes(constant) for constant in model.constants.values())
    if weights_size_bytes <= limit_bytes:
        return frozen
    graph_def, values = without_values(frozen.graph_def)
    return attrs.evolve(frozen, graph_def=graph_def, values=values)


def check_types(frozen: FrozenGraph) -> None:
    """Check that a graph computes in types that tf2onnx knows.

    Raises:
        ConversionError: It computes in bfloat16.
    """
    from tensorflow.core.framework import types_pb2

    functions = frozen.graph_def.library.function
    nodes = [*frozen.graph_def.node, *(node for function in functions for node in function.node_def)]
    found = sorted(
        f"{node.op} {node.name}"
        for node in nodes
        if any(value.type == types_pb2.DT_BFLOAT16 for value in node.attr.values())
    )
    if found:
        raise ConversionError(
            f"the model computes in bfloat16, which tf2onnx does not know: {len(found)} nodes",
            details=found[:_NODES_SHOWN],
            hint="cast it first, with `tpu2gpu cast --to float16` or `--to float32`",
        )


def _with_own_outputs(graph_def: Any, definition: Any) -> FrozenGraph:
    """Give every output a node of its own: two may share a tensor, and one may be an input."""
    taken = {node.name for node in graph_def.node}
    outputs = {}
    for position, (name, info) in enumerate(sorted(definition.outputs.items())):
        node = graph_def.node.add(name=free_name(taken, f"signature_output_{position}"), op="Identity")
        node.input.append(info.name)
        node.attr["T"].type = info.dtype
        outputs[name] = f"{node.name}:0"
    _make_inputs_required(graph_def, definition)
    return FrozenGraph(graph_def, {name: info.name for name, info in definition.inputs.items()}, outputs)


def _make_inputs_required(graph_def: Any, definition: Any) -> None:
    """Make plain placeholders of inputs that have a default, of which tf2onnx makes constants."""
    inputs = {split_tensor(info.name)[0] for info in definition.inputs.values()}
    for node in graph_def.node:
        if node.name in inputs and node.op == "PlaceholderWithDefault":
            node.op = "Placeholder"
            set_inputs(node, [])


def _frozen_by_tensorflow(source: str, signature: str, runner: SavedModelRunner, *, limit_bytes: int) -> FrozenGraph:
    """Freeze in TensorFlow 1's way where there are its reference variables or loops, which the newer one lacks."""
    meta = serving_meta_graph(source)
    definition = meta.signature_def[signature]
    with foreign_errors(
        ConversionError, "TensorFlow cannot freeze the model", hint="give the converter what the Freezer wrote"
    ):
        if any(node.op in _TENSORFLOW_1 for node in meta.graph_def.node):
            return _with_own_outputs(_frozen_by_session(source, meta, definition), definition)
        return _frozen_function(runner, large=_variables_size_bytes(runner) > limit_bytes)


def _frozen_by_session(source: str, meta: Any, definition: Any) -> Any:
    import tensorflow as tf

    v1 = tf.compat.v1
    ends = [info.name for info in [*definition.inputs.values(), *definition.outputs.values()]]
    with v1.Session(graph=tf.Graph()) as session:
        v1.saved_model.load(session, list(meta.meta_info_def.tags), source)
        return v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), sorted({split_tensor(name)[0] for name in ends})
        )


def _frozen_function(runner: SavedModelRunner, *, large: bool) -> FrozenGraph:
    import tensorflow as tf

    names_in, names_out = [spec.name for spec in runner.inputs], [spec.name for spec in runner.outputs]

    # A function around the signature fixes the order of inputs and outputs, and gives every output its own tensor.
    def in_order(*tensors: Any) -> list[Any]:
        outputs = runner.function(**dict(zip(names_in, tensors, strict=True)))
        return [tf.identity(outputs[name]) for name in names_out]

    specs = [
        tf.TensorSpec(spec.shape, tf.dtypes.as_dtype(spec.dtype), name=f"signature_input_{position}")
        for position, spec in enumerate(runner.inputs)
    ]
    function = tf.function(in_order, input_signature=specs, autograph=False).get_concrete_function()
    graph_def, ends = _with_constants(function, large=large)
    inputs = [tensor.name for tensor in ends.inputs[: len(names_in)]]  # what the function captured comes behind
    outputs = [tensor.name for tensor in ends.outputs]
    return FrozenGraph(graph_def, dict(zip(names_in, inputs, strict=True)), dict(zip(names_out, outputs, strict=True)))


def _with_constants(function: Any, *, large: bool) -> tuple[Any, Any]:
    """Return a function's graph with constants for variables, and the function that has its inputs and outputs.

    TensorFlow makes a function of the new graph again, which it cannot where the graph is too large to serialise;
    tf2onnx does without.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tf2onnx.tf_loader import convert_variables_to_constants_large_model

    if large:
        return convert_variables_to_constants_large_model(function), function
    # Loops must stay whole: tf2onnx makes LSTM and GRU of them.
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    return frozen.graph.as_graph_def(), frozen


def _variables_size_bytes(runner: SavedModelRunner) -> int:
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in runner.function.variables)
