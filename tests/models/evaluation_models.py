"""A small reference, and candidates with one fault each, as ONNX files; the examples that they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, CLASSES, EXAMPLES = 6, 4, 120
FAULTS = (
    "none",
    "nan",
    "swapped",
    "missing_output",
    "wrong_shape",
    "wrong_dtype",
    "other_input",
    "noisy_weights",
    "slow",
    "hangs",
    "fails_when_run",
)
_OPSET, _IR_VERSION = 17, 8
_FOREVER = 2**62


def weights() -> np.ndarray:
    """What the reference multiplies by, [features, classes]."""
    return np.random.default_rng(5).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def features() -> np.ndarray:
    """What the examples hold, [examples, features]."""
    return np.random.default_rng(6).normal(size=(EXAMPLES, FEATURES)).astype(np.float32)


def write_examples(path: Path) -> str:
    """Examples with the reference's own classes as labels, but for every tenth: its accuracy is 90 %."""
    import tensorflow as tf

    rows = features()
    labels = np.argmax(rows @ weights(), axis=1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row, label in zip(rows, labels, strict=True):
            made = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=row)),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())
    return str(path)


def onnx_model(path: Path, fault: str = "none") -> Path:
    """`x` [?, 6] -> `scores` [?, 4] and `doubled` [?, 4], with one of `FAULTS`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = weights()
    if fault == "noisy_weights":
        matrix = matrix + np.random.default_rng(7).normal(scale=0.8, size=matrix.shape).astype(np.float32)
    if fault == "wrong_shape":
        matrix = matrix[:, :3]
    constants = {
        "w": matrix,
        "two": np.float32(2),
        "minus": np.float32(-1),
        "far": np.int64([1000]),
        "yes": np.bool_(True),
    }
    constants["trips"] = np.int64(_FOREVER if fault == "hangs" else 3000)
    source = "pixels" if fault == "other_input" else "x"
    first, second = ("doubled", "scores") if fault == "swapped" else ("scores", "doubled")
    nodes = [helper.make_node("MatMul", [source, "w"], ["raw"])]
    last = "raw"
    if fault == "nan":
        nodes.append(helper.make_node("Exp", ["raw"], ["positive"]))
        nodes.append(helper.make_node("Mul", ["positive", "minus"], ["negative"]))
        nodes.append(helper.make_node("Sqrt", ["negative"], [last := "root"]))
    if fault == "fails_when_run":
        nodes.append(helper.make_node("Gather", ["raw", "far"], ["beyond"], axis=0))
        nodes.append(helper.make_node("Add", ["raw", "beyond"], [last := "sum"]))
    if fault in ("slow", "hangs"):
        nodes.append(helper.make_node("Loop", ["trips", "yes", "raw"], [last := "looped"], body=_idle_body()))
    width = matrix.shape[1]
    scores_type = TensorProto.DOUBLE if fault == "wrong_dtype" else TensorProto.FLOAT
    nodes.append(helper.make_node("Cast", [last], [first], to=scores_type))
    outputs = [helper.make_tensor_value_info(first, scores_type, [None, width])]
    if fault != "missing_output":
        nodes.append(helper.make_node("Mul", [last, "two"], [second]))
        outputs.append(helper.make_tensor_value_info(second, TensorProto.FLOAT, [None, width]))
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [None, FEATURES])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _idle_body() -> Any:
    """The body of a loop that hands its value on, by way of a computation that no optimiser removes."""
    from onnx import TensorProto, helper

    shape = [None, CLASSES]
    return helper.make_graph(
        [
            helper.make_node("Tanh", ["value"], ["bounded"]),
            helper.make_node("Sub", ["value", "bounded"], ["less"]),
            helper.make_node("Add", ["less", "bounded"], ["next"]),
            helper.make_node("Identity", ["goes_on"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, shape),
        ],
    )


def serving_folder(folder: Path, *, engine: bool, precision: str = "float32") -> Path:
    """A serving folder around `onnx_model`, with or without an engine that was built for no GPU there is."""
    from tpu2gpu.running.runner import TensorSpec
    from tpu2gpu.running.serving_plan import CORE, PLAN, Engine, OnnxNames, Part, Plan
    from tpu2gpu.storage.publishing import publish, write_json

    inputs = (TensorSpec("x", "float32", (None, FEATURES)),)
    outputs = tuple(TensorSpec(name, "float32", (None, CLASSES)) for name in ("scores", "doubled"))
    names = {"scores": "scores", "doubled": "doubled"}
    built = Engine(file="engines/model.engine", library="tensorrt_rtx", compute_capabilities=("0.0",))
    part = Part(
        name=CORE,
        runs_on="gpu",
        onnx="model.onnx",
        engine=built if engine else Engine(),
        inputs=inputs,
        outputs=outputs,
        onnx_names=OnnxNames({"x": "x"}, names),
        ops={"MatMul": 1},
    )
    plan = Plan(
        signature="serving_default",
        inputs=inputs,
        outputs=outputs,
        output_tensors=names,
        backend="tensorrt_rtx" if engine else "onnx",
        dtype=precision,
        verified_level="engine_built" if engine else "onnx_cpu",
        parts=(part,),
        tolerance=0.002,
        relative_error=1e-6,
        compared_on="synthetic inputs",
        engine_coverage=float(engine),
        versions={},
    )
    with publish(folder, about={"step": "convert"}) as staging:
        onnx_model(staging.folder / "model.onnx")
        if engine:
            (staging.folder / "engines").mkdir()
            (staging.folder / "engines" / "model.engine").write_bytes(b"an engine" * 1000)
        write_json(staging.folder / PLAN, plan.to_json())
    return folder


def saved_model(folder: Path, fault: str = "none") -> Path:
    """The same function as `onnx_model` from Keras; with `fails_when_run` an operation in it raises."""
    import keras
    import tensorflow as tf

    x = keras.Input((FEATURES,), name="x")
    dense = keras.layers.Dense(CLASSES, use_bias=False)
    scores = dense(x)
    model = keras.Model(x, scores)
    dense.set_weights([weights()])

    @tf.function(input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        scores = model(x)
        if fault == "fails_when_run":
            with tf.control_dependencies([tf.debugging.assert_less(x, 2.0, message="a feature is too large")]):
                scores = tf.identity(scores)
        return {"scores": scores, "doubled": 2 * scores}

    tf.saved_model.save(model, str(folder), signatures=serve)
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of an evaluation, held to strict JSON: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path} holds {word}")

    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return data
