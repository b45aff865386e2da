"""Non-max suppression stays in the core or runs beside it, as was asked for, and the plan says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import conversion_models as models
from tests.models import tpu_training
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.errors import ConversionError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.running.loading import load
from tpu2gpu.running.serving_plan import Plan, Suppression, read_plan
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu.trt_converter.parity import compare_detections, compare_outputs
from tpu2gpu.trt_converter.partition.assignment import assign
from tpu2gpu.trt_converter.partition.build_parts import name_outputs
from tpu2gpu.trt_converter.partition.costs import costs_of
from tpu2gpu.trt_converter.partition.suppression import SuppressionBesideError, suppression_of

Built = Callable[..., Path]


def placed(source: Path, *, for_engine: bool, nms: str, refused: dict[str, str] | None = None) -> dict[str, Any] | None:
    model = read_saved_model(source)
    name_outputs(model, "serving_default")
    assignment = assign(model, lambda: costs_of(model), for_engine=for_engine, nms=nms, refused=refused)
    return suppression_of(model, assignment, for_engine=for_engine, nms=nms)


@pytest.mark.parametrize(
    ("for_engine", "nms", "part", "because"),
    [
        (False, "auto", "core", "ONNX Runtime takes it"),
        (False, "engine", "core", "--nms engine asks for it"),
        (False, "beside", "post", "--nms beside asks for it"),
        (True, "auto", "post", "engines do not build it"),
        (True, "beside", "post", "--nms beside asks for it"),
        (True, "engine", "core", "--nms engine asks for it"),
    ],
)
def test_it_runs_where_the_option_says(for_engine: bool, nms: str, part: str, because: str, built: Built) -> None:
    found = placed(built(models.jpeg_detector), for_engine=for_engine, nms=nms)
    assert found == {"ops": {"CombinedNonMaxSuppression": 1}, "part": part, "because": because}
    where = "in the core" if part == "core" else "beside the core, in the part post"
    assert str(Suppression(**found)) == f"Non-max suppression (CombinedNonMaxSuppression) runs {where}: {because}."


def test_what_has_none_says_nothing(built: Built) -> None:
    assert placed(built(models.gelu_block), for_engine=False, nms="engine") is None


def test_one_that_cannot_stay_in_the_core_is_refused_with_the_reason(built: Built) -> None:
    source = built(models.jpeg_detector)
    (name,) = (node.name for node in read_saved_model(source).nodes.values() if node.op == "CombinedNonMaxSuppression")
    with pytest.raises(SuppressionBesideError, match="does not stay in the core") as caught:
        placed(source, for_engine=True, nms="engine", refused={name: "the builder has no kernel of it"})
    assert list(caught.value.details) == [f"{name}: the builder has no kernel of it"]


def test_boxes_in_another_order_are_matched() -> None:
    random = np.random.default_rng(2)
    corners = random.random((3, 5, 2), dtype=np.float32)
    wanted = {
        "detection_boxes": np.concatenate([corners, corners + 0.3], 2),
        "detection_scores": np.sort(random.random((3, 5), dtype=np.float32))[:, ::-1],
        "detection_classes": np.ones([3, 5], np.float32),
        "logits": random.random((3, 4), dtype=np.float32),
    }
    found = {name: array[:, [1, 0, 2, 3, 4]] if name != "logits" else array for name, array in wanted.items()}
    assert compare_outputs(wanted, found)["detection_boxes"]["error"] > 0.1
    matched = compare_detections(wanted, found)
    assert all(figures["error"] < 1e-6 for figures in matched.values())
    moved = {**found, "detection_boxes": found["detection_boxes"] + 0.1, "logits": found["logits"] + 1}
    figures = compare_detections(wanted, moved)
    assert figures["detection_scores"]["error"] > 0.1
    assert figures["logits"]["error"] > 0.1


def check_detections(source: Path, suppression: str, serving: Path) -> None:
    """Compare what a serving folder finds with what TensorFlow 1.15 found, at several sizes of the batch."""
    verify_model(serving)
    model = load(serving)
    for count, wanted in tpu_training.detections(source, suppression).items():
        found = model.run({"jpegs": tpu_training.jpegs(source)[:count]})
        assert np.array_equal(found["num_detections"], wanted["num_detections"])
        assert np.array_equal(found["detection_classes"], wanted["detection_classes"])
        for name in ("detection_boxes", "detection_scores"):
            assert np.abs(found[name] - wanted[name]).max() < 1e-6 * np.abs(wanted[name]).max(), (name, count)


def check_flops(plan: Plan) -> None:
    """The core is counted at the images' real size: its first convolution alone makes 6 maps of 32 x 32.

    This network is so small that decoding and resizing weigh 3 % beside it.
    """
    core = plan.core.flops_per_example or 0
    assert 2 * 32 * 32 * 6 * (3 * 3 * 3) < core < 2_000_000
    assert core > 0.97 * sum(part.flops_per_example or 0 for part in plan.parts)


def converted(source: Path, suppression: str, folder: Path, **options: Any) -> Path:
    """Import, freeze and convert the detector of TensorFlow 1.15."""
    import_model(source / suppression, folder / "imported")
    freeze_model(folder / "imported", folder / "frozen")
    convert_model(folder / "frozen", folder / "serving", ConvertOptions(**options))
    return folder / "serving"


@pytest.mark.slow
def test_a_detector_of_tensorflow_1_15_suppresses_in_its_onnx_file(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "detector_exported")
    serving = converted(source, "combined", tmp_path, backend="onnx", nms="engine")
    plan = read_plan(serving)
    assert [part.name for part in plan.parts] == ["pre", "core"]
    assert plan.core.ops["NonMaxSuppression"] == 1
    assert plan.suppression is not None and plan.suppression.part == "core"
    check_flops(plan)
    assert str(plan.suppression) in (serving / "README.md").read_text()
    check_detections(source, "combined", serving)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_loop_over_examples_and_classes_becomes_a_loop_of_onnx(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "detector_exported")
    serving = converted(source, "per_class", tmp_path, backend="onnx")
    plan = read_plan(serving)
    assert plan.core.ops["Loop"] == 1
    assert plan.suppression is not None and plan.suppression.ops == {"NonMaxSuppressionV3": 3}
    check_detections(source, "per_class", serving)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("suppression", ["combined", "per_class"])
def test_decoding_and_suppression_run_beside_an_engine(suppression: str, built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "detector_exported")
    serving = converted(source, suppression, tmp_path, backend="tensorrt_rtx")  # its sizes are in the graph
    plan = read_plan(serving)
    assert [part.name for part in plan.parts] == ["pre", "core", "post"]
    check_flops(plan)
    assert plan.suppression is not None and plan.suppression.part == "post"
    check_detections(source, suppression, serving)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_soft_suppression_is_refused_where_it_must_stay_in_the_core(tmp_path: Path) -> None:
    import tensorflow as tf

    kernel = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([6, 8], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        y = tf.nn.relu(tf.matmul(x, kernel))
        found = tf.image.non_max_suppression_with_scores(y[:, :4], y[:, 4], 3, soft_nms_sigma=0.5)
        return {"places": found[0], "scores": found[1]}

    tf.saved_model.save(tf.Module(), str(tmp_path / "source"), signatures=serve)
    with pytest.raises(ConversionError, match="does not stay in the core") as caught:
        convert_model(tmp_path / "source", tmp_path / "serving", ConvertOptions(backend="onnx", nms="engine"))
    assert "no soft suppression" in caught.value.details[0]
    assert "leave --nms engine out" in str(caught.value)
