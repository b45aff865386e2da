"""The plugin EfficientNMS_TRT, in the place of ONNX's operations, gives what TensorFlow gives.

TensorRT runs it on a GPU only; here a few lines of NumPy do as NVIDIA documents it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.case import Array, Case
from tests.conformance.families.suppression import boxes_of, number
from tests.conformance.judge import OPSET, Built, build
from tpu2gpu.errors import ConversionError
from tpu2gpu.trt_converter.backends.efficient_nms import PLUGIN, with_efficient_nms
from tpu2gpu.trt_converter.onnx.convert import to_onnx
from tpu2gpu.trt_converter.onnx.freeze import FrozenGraph

LIMITS = {"max_output_size_per_class": 5, "max_total_size": 5}


def case_of(label: str, *, shared: bool = True, clip: bool = False, **limits: int) -> Case:
    """A suppression of two examples and two classes."""
    boxes, scores = boxes_of(label).values()
    each = np.stack([scores, scores[::-1]], -1)
    own = [boxes[:, None]] if shared else [np.stack([boxes, boxes + 0.25], 1)]
    inputs: dict[str, Any] = {"boxes": np.stack(own * 2), "scores": np.stack([each, each * 0.9])}
    inputs |= {name: number(value, "int32") for name, value in {**LIMITS, **limits}.items()}
    inputs |= {"iou_threshold": number(0.5), "score_threshold": number(0.3)}
    return Case("CombinedNonMaxSuppression", inputs, {"clip_boxes": clip})


def written(case: Case, path: Path) -> Built:
    """Convert a case to an ONNX file."""
    built = build(case)
    assert isinstance(built, Built)
    names = {"inputs": {name: name for name in built.inputs}, "outputs": {name: name for name in built.outputs}}
    model, complaints = to_onnx(FrozenGraph(built.graph_def, built.inputs, built.outputs), names, OPSET)
    assert not complaints
    path.write_bytes(model.proto.SerializeToString())
    return built


def with_plugin(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a file with the plugin in ONNX's reference implementation."""
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class EfficientNmsTrt(OpRun):
        op_domain = ""

        def _run(self, boxes: Array, scores: Array, **given: Any) -> tuple[Array, ...]:
            return efficient_nms(boxes, scores, **given)

    EfficientNmsTrt.__name__ = PLUGIN
    model = onnx.load(str(path))
    evaluator = ReferenceEvaluator(model, new_ops=[EfficientNmsTrt])
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def efficient_nms(
    boxes: Array,
    scores: Array,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_output_boxes: int,
    background_class: int,
    score_activation: int,
    class_agnostic: int,
    box_coding: int,
    **_: Any,
) -> tuple[Array, ...]:
    """As NVIDIA documents it: filter, sort, drop what overlaps one of its class that was kept, take the first."""
    assert (background_class, score_activation, class_agnostic, box_coding) == (-1, 0, 0, 0)
    batch, count, classes = scores.shape
    boxes = np.broadcast_to(boxes.reshape(batch, count, -1, 4), (batch, count, classes, 4))
    size = max_output_boxes
    counts, kept = np.zeros([batch, 1], np.int32), np.zeros([batch, size, 4], np.float32)
    best, kinds = np.zeros([batch, size], np.float32), np.zeros([batch, size], np.int32)
    for example in range(batch):
        found: list[tuple[int, Array]] = []
        order = sorted(np.ndindex(classes, count), key=lambda at: -scores[example, at[1], at[0]])
        for kind, at in order:
            box = boxes[example, at, kind]
            if len(found) == size or not scores[example, at, kind] >= score_threshold:
                continue
            if any(other == kind and overlap(box, before) > iou_threshold for other, before in found):
                continue
            place = len(found)
            kept[example, place], best[example, place], kinds[example, place] = box, scores[example, at, kind], kind
            found.append((kind, box))
        counts[example] = len(found)
    return counts, kept, best, kinds


def overlap(one: Array, other: Array) -> float:
    sides = [(np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])) for box in (one, other)]
    both = np.prod(np.maximum(np.minimum(sides[0][1], sides[1][1]) - np.maximum(sides[0][0], sides[1][0]), 0))
    areas = [np.prod(high - low) for low, high in sides]
    return float(both / (sum(areas) - both)) if min(areas) > 0 else 0.0


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("label", ["different", "other corners", "no area", "at random"])
def test_the_copy_for_the_builder_answers_as_tensorflow(label: str, shared: bool, clip: bool, tmp_path: Path) -> None:
    import onnx

    case = case_of(label, shared=shared, clip=clip)
    built = written(case, tmp_path / "model.onnx")
    path = with_efficient_nms(tmp_path / "model.onnx")
    operations = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert PLUGIN in operations
    assert not operations & {"NonMaxSuppression", "TopK", "ScatterND", "Range"}
    found = with_plugin(path, case.fed())
    assert built.wanted["result_3"].min() > 0
    for name, wanted in built.wanted.items():
        assert found[name].dtype == wanted.dtype, name
        if label != "at random":
            assert np.array_equal(found[name], wanted), name
    # of equal scores either may come first
    assert np.array_equal(found["result_1"], built.wanted["result_1"])
    assert np.array_equal(found["result_3"], built.wanted["result_3"])


def test_what_the_plugin_cannot_do_is_refused_with_every_reason(tmp_path: Path) -> None:
    written(case_of("different", max_output_size_per_class=2), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match=PLUGIN) as caught:
        with_efficient_nms(tmp_path / "model.onnx")
    assert "at most 2 boxes of a class and 5 in all" in caught.value.details[0]
    assert "--nms beside" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_suppresses_nothing_is_parsed_as_it_is(tmp_path: Path) -> None:
    from tests.models.detection_models import onnx_detector

    path = onnx_detector(tmp_path / "model.onnx")
    assert with_efficient_nms(path) == path
