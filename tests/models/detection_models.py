"""A small detector as ONNX, candidates with one fault each, and examples with ground-truth boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BOXES, EXAMPLES = 3, 20
FAULTS = ("none", "reordered", "moved", "silent")


def corners() -> np.ndarray:
    """The boxes that the detector finds, [examples, boxes, 4]."""
    rng = np.random.default_rng(21)
    first = rng.random((EXAMPLES, BOXES, 2))
    return np.concatenate([first, first + 0.2 + rng.random((EXAMPLES, BOXES, 2))], axis=2).astype(np.float32)


def write_examples(path: Path) -> str:
    """Examples with the detector's own boxes as the true ones, but for the first two's: those have none."""
    import tensorflow as tf

    def floats(values: Any) -> Any:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, boxes in enumerate(corners()):
            true = boxes if number > 1 else boxes[:0]
            made = {"x": floats(boxes.ravel())}
            for side, name in enumerate(("ymin", "xmin", "ymax", "xmax")):
                made[f"image/object/bbox/{name}"] = floats(true[:, side])
            kinds = tf.train.Int64List(value=range(1, len(true) + 1))
            made["image/object/class/label"] = tf.train.Feature(int64_list=kinds)
            writer.write(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())
    return str(path)


def onnx_detector(path: Path, fault: str = "none") -> Path:
    """`x` [?, 12] -> `detection_boxes` [?, 3, 4], `detection_scores` and `detection_classes` [?, 3]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    order = np.int64([2, 1, 0] if fault == "reordered" else [0, 1, 2])
    scores = np.float32([0.9, 0.8, 0.1 if fault == "silent" else 0.7])
    constants = {
        "form": np.int64([-1, BOXES, 4]),
        "shift": np.float32([0.2, 0, 0.2, 0] if fault == "moved" else [0, 0, 0, 0]),
        "order": order,
        "zero": np.float32(0),
        "score": scores[order],
        "kind": np.float32([1, 2, 3])[order],
    }
    nodes = [
        helper.make_node("Reshape", ["x", "form"], ["raw"]),
        helper.make_node("Gather", ["raw", "order"], ["rows"], axis=1),
        helper.make_node("Add", ["rows", "shift"], ["detection_boxes"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "score"], ["detection_scores"]),
        helper.make_node("Add", ["nothing", "kind"], ["detection_classes"]),
    ]
    outputs = {
        "detection_boxes": [None, BOXES, 4],
        "detection_scores": [None, BOXES],
        "detection_classes": [None, BOXES],
    }
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, BOXES * 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
