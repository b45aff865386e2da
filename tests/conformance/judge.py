"""The judge of a case: the operation in TensorFlow, converted as `convert` does it, and run in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from tests.conformance.case import Array, Case, Const
from tpu2gpu.errors import Tpu2GpuError, first_line
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.signatures import new_signature
from tpu2gpu.trt_converter.onnx.convert import to_onnx
from tpu2gpu.trt_converter.onnx.freeze import FrozenGraph
from tpu2gpu.trt_converter.onnx.validate import check_operations
from tpu2gpu.trt_converter.partition.unsupported_ops import unsupported_nodes

EXACT, WITHIN, SPLIT_OFF, DEVIATES, REFUSED, NO_KERNEL = "exact", "within", "split off", "deviates", "refused", "-"
OPSET = 17
TOLERANCES = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-9}
"""The largest error of an element, relative to it, or to 1 where it is smaller."""


@attrs.frozen
class Verdict:
    """What came out.

    Attributes:
        kind: `exact`; `within` the tolerance; `split off` by the partitioner beforehand; `refused` by the conversion,
            so that the partitioner cuts it off; `deviates`; or `-` where TensorFlow itself does not run it.
        why: The reason, or the difference.
    """

    kind: str
    why: str = ""


@attrs.frozen
class Built:
    """A case as a graph, with TensorFlow's outputs; `whole` is the graph with what fills its tables."""

    graph_def: Any
    whole: Any
    inputs: dict[str, str]
    outputs: dict[str, str]
    wanted: dict[str, Array]


def judge(case: Case) -> Verdict:
    """Build, convert, run and compare one case."""
    built = build(case)
    if isinstance(built, str):
        return Verdict(NO_KERNEL, built)
    if why := split_off_because(built):
        return Verdict(SPLIT_OFF, why)
    try:
        found = _run_converted(case, built)
    except Tpu2GpuError as error:
        return Verdict(REFUSED, "; ".join([first_line(error), *error.details])[:300])
    return compare(built.wanted, found)


def build(case: Case) -> Built | str:
    """Make the graph and run it; the reason where TensorFlow does not take it."""
    import tensorflow as tf

    tensors: dict[str, Any] = {}

    def tensor(name: str, feed: Any) -> Any:
        if isinstance(feed, Const):
            return tf.constant(feed.value)
        array = np.asarray(feed)
        dtype = tf.string if array.dtype.kind in "OSU" else array.dtype
        shape = [None] * array.ndim if case.dynamic else array.shape
        tensors[name] = tf.compat.v1.placeholder(dtype, shape, name=name)
        return tensors[name]

    with tf.Graph().as_default() as graph:
        arguments = {
            name: [tensor(f"{name}_{position}", each) for position, each in enumerate(feed)]
            if isinstance(feed, list)
            else tensor(f"{name}_0", feed)
            for name, feed in case.inputs.items()
        }
        try:
            made = (case.made_by or getattr(tf.raw_ops, case.op))(**arguments, **case.attributes)
            found = [tf.identity(each, name=f"result_{place}") for place, each in enumerate(tf.nest.flatten(made))]
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.tables_initializer())
                fed = {tensors[name]: array for name, array in case.fed().items()}
                values = session.run(found, fed)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            if isinstance(error, TypeError) and "not in list of allowed values" not in str(error):
                raise
            return first_line(error)
    ends = [*tensors, *(tensor.op.name for tensor in found)]
    whole = graph.as_graph_def()
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(whole, ends)
    held = {node.op for node in (*graph_def.node, *(n for each in graph_def.library.function for n in each.node_def))}
    if missing := {case.op, *case.beside} - held:
        raise AssertionError(f"{case}: the graph holds no {', '.join(sorted(missing))}, but {', '.join(sorted(held))}")
    names = [f"result_{place}" for place in range(len(found))]
    inputs = {name: f"{name}:0" for name in tensors}
    return Built(graph_def, whole, inputs, {name: f"{name}:0" for name in names}, dict(zip(names, values, strict=True)))


def split_off_because(built: Built) -> str:
    """Return why the partitioner takes the operation away from ONNX Runtime; empty where it does not."""
    signature = new_signature()
    for ends, into in ((built.inputs, signature.inputs), (built.outputs, signature.outputs)):
        for name, tensor in ends.items():
            into[name].name = tensor
    model = ServingModel(
        nodes={node.name: node for node in built.graph_def.node},
        functions={function.signature.name: function for function in built.graph_def.library.function},
        signatures={"serving_default": signature},
        variables={},
        ops=OpDefs(),
        bundle=None,
        init_node="",
        assets=[],
        versions=built.graph_def.versions,
        tensorflow_version="",
    )
    return next(iter(unsupported_nodes(model, for_engine=False).values()), "")


def _run_converted(case: Case, built: Built) -> dict[str, Array]:
    import onnxruntime

    names = {"inputs": {name: name for name in built.inputs}, "outputs": {name: name for name in built.outputs}}
    frozen = FrozenGraph(built.graph_def, built.inputs, built.outputs)
    model, complaints = to_onnx(frozen, names, OPSET)
    check_operations(model.proto, complaints)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class of its own for each reason
        raise Tpu2GpuError("ONNX Runtime does not take it", details=[str(error).strip().splitlines()[0]]) from error
    try:
        outputs = session.run(list(built.outputs), case.fed())
    except Exception as error:
        raise Tpu2GpuError("ONNX Runtime does not run it", details=[str(error).strip().splitlines()[0]]) from error
    return dict(zip(built.outputs, outputs, strict=True))


def compare(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> Verdict:
    """Compare every element of every output; NaN equals NaN, and zeros of both signs are within the tolerance."""
    kind = EXACT
    for name, array in wanted.items():
        other = found[name]
        if other.dtype != array.dtype or other.shape != array.shape:
            return Verdict(DEVIATES, f"{other.dtype} {other.shape}, was {array.dtype} {array.shape}")
        if array.dtype.kind != "f":
            same = np.asarray(array == other)
        else:
            same = np.asarray(_within(array, other))
            is_exact = (array == other) & (np.signbit(array) == np.signbit(other)) | np.isnan(array) & np.isnan(other)
            kind = kind if np.all(is_exact) else WITHIN
        if wrong := list(np.flatnonzero(~np.atleast_1d(same))):
            shown = [f"[{at}] {other.flat[at]} was {array.flat[at]}" for at in wrong[:4]]
            return Verdict(DEVIATES, f"{len(wrong)} of {array.size}: {'; '.join(shown)}")
    return Verdict(kind)


def _within(array: Array, other: Array) -> Array:
    """Tell which elements are within the tolerance."""
    with np.errstate(all="ignore"):
        error = np.abs(array.astype(np.float64) - other.astype(np.float64))
        allowed = TOLERANCES[str(array.dtype)] * np.maximum(1, np.abs(array.astype(np.float64)))
        near: Array = np.isfinite(array) & np.isfinite(other) & (error <= allowed)
    return near | (array == other) | (np.isnan(array) & np.isnan(other))
