"""Non-max suppression, as ONNX Runtime does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

METADATA = "tpu2gpu.suppressions"
"""The property of an ONNX file that tells of the suppressions of all classes in it, as JSON."""
SUPPRESSIONS: ContextVar[dict[str, dict[str, Any]] | None] = ContextVar("SUPPRESSIONS", default=None)
"""Where a conversion collects them: by the name of the node, its constants and what is known of its sizes."""
SELECTION = "selection"
"""The end of the name of the node that suppresses for CombinedNonMaxSuppression; see `CombinedSuppression`."""
ENDS = ("boxes", "scores", "classes", "valid")
"""The ends of the names of the nodes that give its outputs."""
_FLAGS = ("pad_per_class", "clip_boxes")


def write_suppressions(model: Any, suppressions: dict[str, dict[str, Any]]) -> None:
    """Put what was collected into the properties of an ONNX model."""
    if suppressions:
        model.metadata_props.add(key=METADATA, value=json.dumps(suppressions, sort_keys=True))


def read_suppressions(model: Any) -> dict[str, dict[str, Any]]:
    """Return what `write_suppressions` wrote; nothing where it wrote none."""
    found = [prop.value for prop in model.metadata_props if prop.key == METADATA]
    return dict(json.loads(found[0])) if found else {}


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op(["NonMaxSuppression", "NonMaxSuppressionV2"])(UnlimitedSuppression)
    tf_op("NonMaxSuppressionV5")(HardSuppression)
    tf_op("CombinedNonMaxSuppression")(CombinedSuppression)


class UnlimitedSuppression:
    """Without a threshold of scores, TensorFlow leaves out NaN and -Inf, and ONNX Runtime takes them."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Give it the lowest threshold, and let tf2onnx convert it."""
        from tf2onnx.onnx_opset.tensor import NonMaxSuppression

        inputs = list(node.input)
        if node.type == "NonMaxSuppression":
            overlap = np.array(node.get_attr_value("iou_threshold", 0.5), np.float32)
            inputs.append(ctx.make_const(f"{node.name}/iou_threshold", overlap).output[0])
        least = np.array(np.finfo(np.float32).min)
        ctx.replace_inputs(node, [*inputs, ctx.make_const(f"{node.name}/score_threshold", least).output[0]])
        NonMaxSuppression.version_13(ctx, node, **more)


class HardSuppression:
    """ONNX knows no soft suppression; tf2onnx takes the whole part of its sigma, and so 0.5 for none."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Let tf2onnx convert it.

        Raises:
            ValueError: The suppression is soft, or may be.
        """
        from tf2onnx.onnx_opset.tensor import NonMaxSuppression

        sigma = node.inputs[5]
        if not sigma.is_const() or float(sigma.get_tensor_value()) != 0:
            raise ValueError(f"{node.name}: ONNX knows no soft suppression (soft_nms_sigma is not 0)")
        NonMaxSuppression.version_13(ctx, node, **more)


class CombinedSuppression:
    """Every class of every example at once: tf2onnx takes boxes that all classes share only, and pads otherwise.

    The boxes that are left lie in a grid, [batch, classes * most of a class], and the best of each row are taken. Nodes
    are named so that a builder of engines finds the whole again: `NAME/selection` suppresses, and `NAME/boxes`,
    `NAME/scores`, `NAME/classes` and `NAME/valid` give the outputs.
    """

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put ONNX's operations in its place."""
        _Combined(ctx, node).replace()


class _Combined:
    """One CombinedNonMaxSuppression in the making; sizes are tensors of one element, int64."""

    def __init__(self, ctx: Any, node: Any) -> None:
        self._ctx, self._node = ctx, node
        self._boxes, self._scores, per_class, total, self._overlap, self._least = node.input
        self._told = node.input[2:6]
        shape = ctx.get_shape(self._boxes)
        self._shared = shape is not None and len(shape) == 4 and shape[2] == 1
        self._may_be_empty = shape is None or len(shape) != 4 or shape[1] <= 0
        self._per_class = self._op("Reshape", [self._int64(per_class), self._const([1])])
        self._total = self._op("Reshape", [self._int64(total), self._const([1])])
        sizes = self._op("Shape", [self._scores])
        self._batch, self._count, self._classes = (
            self._op("Slice", [sizes, self._const([at]), self._const([at + 1])]) for at in range(3)
        )
        self._most = self._op("Max", [self._op("Min", [self._per_class, self._count]), self._const([1])])

    def replace(self) -> None:
        boxes = self._op("Transpose", [self._boxes], perm=[0, 2, 1, 3])  # [batch, classes or 1, boxes, 4]
        scores = self._op("Transpose", [self._scores], perm=[0, 2, 1])  # [batch, classes, boxes]
        rows = self._op("Mul", [self._batch, self._classes])
        if not self._shared:
            wanted = self._joined([self._batch, self._classes, self._count, self._const([4])])
            boxes = self._op("Expand", [boxes, wanted])
        row, place = self._selected(boxes, scores, rows)
        flat = self._reshaped(scores, [rows, self._count])
        kept = self._op("GatherND", [flat, self._pairs(row, place)])
        at = self._pairs(row, self._ranks(row, rows))
        grid = self._joined([rows, self._most])
        lowest, nothing = self._filled(grid, np.float32(-np.inf)), self._filled(grid, np.int64(-1))
        wide = [self._batch, self._op("Mul", [self._classes, self._most])]
        scores = self._reshaped(self._op("ScatterND", [lowest, at, kept]), wide)
        places = self._reshaped(self._op("ScatterND", [nothing, at, place]), wide)
        self._give(boxes, scores, places)

    def _selected(self, boxes: str, scores: str, rows: str) -> tuple[str, str]:
        """Suppress; return of each box that is left its row, [batch * classes], and its place there."""
        if self._shared:
            boxes = self._op("Squeeze", [boxes, self._const([1])])
        else:
            boxes = self._reshaped(boxes, [rows, self._count, self._const([4])])
            scores = self._reshaped(scores, [rows, self._const([1]), self._count])
        inputs = [boxes, scores, self._per_class, self._overlap, self._least]
        selected = self._op("NonMaxSuppression", inputs, name=SELECTION)
        first, second, place = (self._op("Gather", [selected, self._const(at)], axis=1) for at in range(3))
        if not self._shared:
            return first, place
        return self._op("Add", [self._op("Mul", [first, self._classes]), second]), place

    def _ranks(self, row: str, rows: str) -> str:
        """Return the place of each box among those of its row; they come row by row, the best first."""
        number = self._op("Shape", [row])
        ones = self._filled(number, np.int64(1))
        counts = self._op("ScatterElements", [self._filled(rows, np.int64(0)), row, ones], axis=0, reduction="add")
        before = self._op("CumSum", [counts, self._const(0)], exclusive=1)
        end = self._op("Squeeze", [number, self._const([0])])
        return self._op(
            "Sub", [self._op("Range", [self._const(0), end, self._const(1)]), self._op("Gather", [before, row])]
        )

    def _give(self, boxes: str, scores: str, places: str) -> None:
        """Take the best of each row of the grid, and pad with zeros."""
        width = self._op("Mul", [self._classes, self._most])
        length = self._op("Min", [self._total, width])
        best = self._ctx.make_node("TopK", [scores, length], output_count=2, op_name_scope=self._node.name).output
        place = self._op("GatherElements", [places, best[1]], axis=1)
        valid = self._op("GreaterOrEqual", [place, self._const(0)])
        place = self._op("Max", [place, self._const(0)])
        kind = self._op("Div", [best[1], self._most])
        if self._may_be_empty:
            boxes = self._op("Pad", [boxes, self._const([0, 0, 0, 0, 0, 0, 1, 0])])
        whose = self._op("Mul", [kind, self._const(0)]) if self._shared else kind
        found = self._op("GatherND", [boxes, self._pairs(whose, place, axis=2)], batch_dims=1)
        if self._node.get_attr_value("clip_boxes", 1):
            found = self._op("Clip", [found, self._const(0, np.float32), self._const(1, np.float32)])
        zero = self._const(0, np.float32)
        filled = [
            self._op("Where", [self._op("Unsqueeze", [valid, self._const([2])]), found, zero]),
            self._op("Where", [valid, best[0], zero]),
            self._op("Where", [valid, self._op("Cast", [kind], to=_onnx_type("FLOAT")), zero]),
        ]
        wanted = self._total
        if self._node.get_attr_value("pad_per_class", 0):
            wanted = self._op("Min", [self._total, self._op("Mul", [self._per_class, self._classes])])
        rest, none = self._op("Sub", [wanted, length]), self._const([0])
        pads = [[none, none, none, none, rest, none], [none, none, none, rest], [none, none, none, rest]]
        counted = self._op("Cast", [valid], to=_onnx_type("INT32"))
        ends: list[tuple[str, list[str], dict[str, int]]] = [
            ("Pad", [each, self._joined(sizes)], {}) for each, sizes in zip(filled, pads, strict=True)
        ]
        ends.append(("ReduceSum", [counted, self._const([1])], {"keepdims": 0}))
        outputs = list(self._node.output)
        self._describe()
        described = [(self._ctx.get_shape(output), self._ctx.get_dtype(output)) for output in outputs]
        self._ctx.remove_node(self._node.name)
        for end, (op, inputs, attributes), output, (shape, dtype) in zip(ENDS, ends, outputs, described, strict=True):
            self._ctx.make_node(
                op,
                inputs,
                attr=attributes,
                outputs=[output],
                name=f"{self._node.name}/{end}",
                shapes=[shape],
                dtypes=[dtype],
            )

    def _describe(self) -> None:
        """Note, for builders of engines, what the operation is told; None where that is no constant."""
        if (collected := SUPPRESSIONS.get()) is None:
            return
        names = ("max_per_class", "max_total", "iou_threshold", "score_threshold")
        told = {
            name: each.get_tensor_value() if each.is_const() else None
            for name, each in zip(names, map(self._ctx.get_node_by_output, self._told), strict=True)
        }
        flags = {name: bool(self._node.get_attr_value(name, name == "clip_boxes")) for name in _FLAGS}
        shape = self._ctx.get_shape(self._scores) or [-1, -1, -1]
        sizes = {"boxes": shape[1], "classes": shape[2], "shared": self._shared}
        collected[self._node.name] = {**told, **flags, **sizes}

    def _op(self, op: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        named = {"name": f"{self._node.name}/{name}"} if name else {"op_name_scope": self._node.name}
        return str(self._ctx.make_node(op, list(inputs), attr=attributes, **named).output[0])

    def _const(self, value: Any, dtype: Any = np.int64) -> str:
        from tf2onnx.utils import make_name

        return str(self._ctx.make_const(make_name(f"{self._node.name}/const"), np.array(value, dtype)).output[0])

    def _int64(self, tensor: str) -> str:
        return self._op("Cast", [tensor], to=_onnx_type("INT64"))

    def _joined(self, sizes: Sequence[str]) -> str:
        return self._op("Concat", sizes, axis=0)

    def _reshaped(self, tensor: str, sizes: Sequence[str]) -> str:
        return self._op("Reshape", [tensor, self._joined(sizes)], allowzero=1)

    def _pairs(self, first: str, second: str, axis: int = 1) -> str:
        """Join two tensors of indices in a new last dimension."""
        return self._op(
            "Concat", [self._op("Unsqueeze", [each, self._const([axis])]) for each in (first, second)], axis=axis
        )

    def _filled(self, shape: str, value: Any) -> str:
        from onnx import numpy_helper

        return self._op("ConstantOfShape", [shape], value=numpy_helper.from_array(np.array([value]), "value"))


def _onnx_type(name: str) -> int:
    from onnx import TensorProto

    return int(TensorProto.DataType.Value(name))
