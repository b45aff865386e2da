"""NVIDIA's plugin EfficientNMS_TRT in the place of what ONNX needs several operations for.

TensorRT's parser takes ONNX's NonMaxSuppression, but what puts all classes together behind it has sizes that depend on
values; the plugin gives all of that in one node, of fixed sizes. ONNX Runtime does not know it, so that `model.onnx`
keeps ONNX's operations, and the builder is given a copy.

Source: https://github.com/NVIDIA/TensorRT/tree/main/plugin/efficientNMSPlugin
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ConversionError
from tpu2gpu.trt_converter.onnx.handlers.suppression import ENDS, SELECTION, read_suppressions

PLUGIN = "EfficientNMS_TRT"
_CONSTANTS = ("max_per_class", "max_total", "iou_threshold", "score_threshold")
_HINT = "leave it beside the engine with --nms beside"


def with_efficient_nms(onnx_path: Path) -> Path:
    """Write a copy of an ONNX file, beside it, in which the plugin suppresses.

    Args:
        onnx_path: The file that a conversion wrote.

    Returns:
        The copy; the file itself where it suppresses nothing.

    Raises:
        ConversionError: The plugin cannot do what the model does; all reasons are listed.
    """
    import onnx

    model = onnx.load(str(onnx_path), load_external_data=False)
    suppressions = read_suppressions(model)
    if not suppressions:
        return onnx_path
    replace_suppressions(model, suppressions)
    path = onnx_path.with_name(f"{onnx_path.stem}.{PLUGIN}.onnx")
    onnx.save(model, str(path))
    return path


def replace_suppressions(model: Any, suppressions: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the plugin in the place of suppressions, and take out what nothing needs any more.

    Args:
        model: An ONNX ModelProto.
        suppressions: What is known of each, by the name of the source's node.

    Raises:
        ConversionError: The plugin cannot do one of them.
    """
    if wrong := [f"{name}: {why}" for name, facts in suppressions.items() for why in obstacles(facts)]:
        raise ConversionError(f"the plugin {PLUGIN} cannot suppress as the model does", details=wrong, hint=_HINT)
    named = {node.name: node for node in model.graph.node}
    for name, facts in suppressions.items():
        missing = [end for end in (SELECTION, *ENDS) if f"{name}/{end}" not in named]
        if missing:
            what = ", ".join(missing)
            raise ConversionError(f"{name}: its operations ({what}) are not in the ONNX file any more", hint=_HINT)
        selection, ends = named[f"{name}/{SELECTION}"], [named[f"{name}/{end}"] for end in ENDS]
        outputs = [end.output[0] for end in ends]
        for end in ends:
            model.graph.node.remove(end)
        model.graph.node.extend(_plugin(name, facts, selection.input[:2], outputs))
    _sort_needed(model.graph)


def obstacles(facts: Mapping[str, Any]) -> list[str]:
    """List why the plugin cannot do a suppression; nothing where it can."""
    wrong = [f"{name} is no constant" for name in _CONSTANTS if facts[name] is None]
    if wrong:
        return wrong
    if facts["max_per_class"] < facts["max_total"]:
        wrong.append(
            f"it keeps at most {facts['max_per_class']} boxes of a class and {facts['max_total']} in all; "
            "the plugin knows the latter only"
        )
    if not facts["shared"] and min(facts["boxes"], facts["classes"]) < 1:
        wrong.append("each class has boxes of its own, and their number is unknown")
    return wrong


def _plugin(name: str, facts: Mapping[str, Any], inputs: Iterable[str], outputs: Iterable[str]) -> list[Any]:
    """Return the plugin's node, with what brings its inputs and outputs into TensorFlow's form."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []

    def made(op: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(value: Any, dtype: Any, at: str) -> str:
        return made("Constant", [], f"{name}/{at}", value=numpy_helper.from_array(np.array(value, dtype)))

    boxes, scores = inputs
    if not facts["shared"]:  # [batch * classes, boxes, 4] and [batch * classes, 1, boxes]
        count, classes = facts["boxes"], facts["classes"]
        shape = constant([-1, classes, count, 4], np.int64, "own_boxes_shape")
        boxes = made(
            "Transpose", [made("Reshape", [boxes, shape], f"{name}/own")], f"{name}/own_boxes", perm=[0, 2, 1, 3]
        )
        shape = constant([-1, classes, count], np.int64, "own_scores_shape")
        scores = made("Reshape", [scores, shape], f"{name}/own_scores")
    scores = made("Transpose", [scores], f"{name}/box_scores", perm=[0, 2, 1])
    kept, best, kinds, counts = outputs
    raw = [f"{name}/plugin_{end}" for end in ("counts", "boxes", "scores", "classes")]
    raw[2] = best
    nodes.append(
        helper.make_node(
            PLUGIN,
            [boxes, scores],
            raw,
            name=f"{name}/plugin",
            plugin_version="1",
            plugin_namespace="",
            background_class=-1,
            box_coding=0,
            class_agnostic=0,
            iou_threshold=float(facts["iou_threshold"]),
            max_output_boxes=int(facts["max_total"]),
            score_activation=0,
            score_threshold=float(facts["score_threshold"]),
        )
    )
    if facts["clip_boxes"]:
        made("Clip", [raw[1], constant(0, np.float32, "low"), constant(1, np.float32, "high")], kept)
    else:
        made("Identity", [raw[1]], kept)
    made("Cast", [raw[3]], kinds, to=TensorProto.FLOAT)
    made("Squeeze", [raw[0], constant([1], np.int64, "axis")], counts)
    return nodes


def _sort_needed(graph: Any) -> None:
    """Order the nodes by what they need, and leave out those that no output does."""
    producers = {output: node for node in graph.node for output in node.output}
    ordered: list[Any] = []
    done: set[int] = set()
    stack = [(producers[output.name], False) for output in reversed(graph.output) if output.name in producers]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        stack.extend((producers[each], False) for each in reversed(_needed(node)) if each in producers)
    kept = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(kept)
    needed = {each for node in kept for each in _needed(node)} | {output.name for output in graph.output}
    weights = [each for each in graph.initializer if each.name in needed]
    kept_weights = [type(each).FromString(each.SerializeToString()) for each in weights]
    del graph.initializer[:]
    graph.initializer.extend(kept_weights)


def _needed(node: Any) -> list[str]:
    """Return the tensors that a node needs, those that its bodies take from around them among them."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*node.input, *(each for body in bodies for inner in body.node for each in _needed(inner))]
