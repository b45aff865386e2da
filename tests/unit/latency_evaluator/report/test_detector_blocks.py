"""What the report shows of a detector: its parts, its detections, and what the usual recipe would have said."""

import base64
import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from tpu2gpu.latency_evaluator.accuracy.detection_samples import SAMPLES, DetectionSampler
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.partition import FlowFigures, PartFigures, PartitionFigures
from tpu2gpu.latency_evaluator.report.detection_drawings import detection_figures
from tpu2gpu.latency_evaluator.report.partition_blocks import partition_tables
from tpu2gpu.latency_evaluator.report.recipe_block import recipe_table
from tpu2gpu.latency_evaluator.results import CandidateResult, EvaluateResult, ModelFigures
from tpu2gpu.running.examples.box_labels import BoxLabels


def picture(kind: str = "JPEG", size: tuple[int, int] = (200, 100)) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size, "orange").save(file, kind, **({"comment": b"<script>"} if kind == "JPEG" else {}))
    return file.getvalue()


def outputs(count: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    boxes = np.tile(np.array([[[10, 20, 50, 120], [0, 0, 5, 5]]], np.float32) * scale, (count, 1, 1))
    return {
        "boxes": boxes,
        "scores": np.tile(np.array([[0.9, 0.1]], np.float32), (count, 1)),
        "classes": np.tile(np.array([[3, 1]]), (count, 1)),
    }


def as_input(files: list[bytes]) -> dict[str, np.ndarray]:
    array = np.empty(len(files), object)
    array[:] = files
    return {"image_bytes": array}


def sampled(files: list[bytes], scale: float = 1.0, worst: int | None = None, **options):
    truth = [BoxLabels(np.array([[10.0, 20, 50, 120]]) * scale, np.array([3])) for _ in files]
    sampler = DetectionSampler(as_input(files), truth, EvaluateOptions(**options))
    sampler.note("reference", outputs(len(files), scale))
    sampler.note("candidate", outputs(len(files), scale), worst)
    return sampler.samples()


def test_each_model_s_boxes_are_drawn_on_the_image():
    samples = sampled([picture(), picture("PNG")])
    figures = detection_figures(samples, 0.3)
    assert [one.title for one in figures.drawings] == [
        f"Example {number}: {label}, 1 box" for number in (0, 1) for label in ("reference", "candidate")
    ]
    for drawing in figures.drawings:
        root = ElementTree.fromstring(drawing.svg)  # well-formed
        assert root.get("viewBox") == "0 0 200 100"
        (image,) = root.iter("{http://www.w3.org/2000/svg}image")
        content = base64.b64decode(image.get("href").removeprefix("data:image/jpeg;base64,"))
        assert content.startswith(b"\xff\xd8")
        assert b"script" not in content
        boxes = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if not rect.get("stroke-dasharray")]
        assert [(rect.get("x"), rect.get("y"), rect.get("width"), rect.get("height")) for rect in boxes] == [
            ("20.0", "10.0", "100.0", "40.0")
        ]
        assert "3: 0.90" in drawing.svg


def test_no_label_hides_another_or_is_cut_at_the_right():
    files = [picture()]
    sampler = DetectionSampler(as_input(files), None, EvaluateOptions())
    boxes = np.array([[[10, 150 + shift, 50, 199] for shift in (0, 3, 5, 40)]], np.float32)
    found = {
        "boxes": boxes,
        "scores": np.array([[0.9, 0.8, 0.7, 0.6]], np.float32),
        "classes": np.array([[1, 2, 3, 4]]),
    }
    sampler.note("reference", found)
    (drawing,) = detection_figures(sampler.samples(), 0.3).drawings
    texts = list(ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text"))
    assert [text.text for text in texts] == ["1: 0.90", "2: 0.80", "3: 0.70", "4: 0.60"]
    lines = [float(text.get("y")) for text in texts]
    height = float(texts[0].get("font-size"))
    assert all(low - high >= height - 0.1 for high, low in pairwise(sorted(lines)))
    assert all(float(text.get("x")) + 0.6 * height * len(text.text) < 200 for text in texts)


def test_boxes_in_fractions_are_drawn_in_pixels():
    size = np.array([100, 200, 100, 200])
    (sample, *_) = sampled([picture()], scale=1 / 200)
    np.testing.assert_allclose(sample.found["reference"].boxes[0], np.array([10, 20, 50, 120]) / 200 * size, rtol=1e-6)


def test_boxes_that_begin_with_x_are_turned():
    names = ",".join(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
    (sample,) = sampled([picture()], label_boxes=names)
    assert sample.found["candidate"].boxes[0].tolist() == [20, 10, 120, 50]
    assert sample.ground_truth.boxes[0].tolist() == [20, 10, 120, 50]


def test_the_worst_example_is_drawn_first_and_only_a_few():
    samples = sampled([picture()] * 9, worst=7)
    assert [sample.example for sample in samples] == [7, 0, 1, 2]
    assert len(samples) == SAMPLES


@pytest.mark.parametrize("damage", [b"\xff\xd8\xff", b"\xff\xd8\xff" + b"\0" * 400, b""])
def test_what_is_no_image_is_left_out(damage: bytes):
    assert [sample.example for sample in sampled([picture(), damage])] == [0]
    assert sampled([b"text"]) == ()
    assert detection_figures((), 0.3) is None


def test_large_images_are_embedded_small():
    (sample,) = sampled([picture(size=(3000, 1500))])
    figures = detection_figures((sample,), 0.3)
    assert len(figures.drawings[0].svg) < 50_000
    assert 'viewBox="0 0 3000 1500"' in figures.drawings[0].svg


def test_the_core_s_share_and_the_cut_are_told():
    partition = PartitionFigures(
        parts=(
            PartFigures(
                name="pre", runs="TensorFlow", operations=30, flops_per_example=1_000_000, because="DecodeJpeg"
            ),
            PartFigures(name="core", runs="ONNX Runtime", operations=200, flops_per_example=198_000_000),
            PartFigures(name="post", runs="TensorFlow", operations=9, flops_per_example=1_000_000, because="NMS"),
        ),
        flows=(
            FlowFigures(tensor="a", form="uint8 [?, 9]", bytes_per_example=2048, producer="pre", consumers=("core",)),
            FlowFigures(tensor="b", form="x", bytes_per_example=1024, producer="core", consumers=("post",)),
        ),
    )
    assert partition.core_share == pytest.approx(0.99)
    parts, flows = partition_tables(partition, "")
    assert parts.note.startswith("99.00 % of the floating-point operations are in the core")
    assert [row.cells[0] for row in parts.rows] == ["pre", "core", "post"]
    assert flows.note == "3.00 KiB for each example in all."
    assert flows.rows[0].cells[0] == "pre → core"


def result_of(*labels: str) -> EvaluateResult:
    figures = [ModelFigures(label=label, name=label) for label in labels]
    empty = {"compared": 1, "parity": {}, "boxes": None, "box_outputs": (), "speedup": {}, "regression": None}
    empty |= {"checks": (), "speed": "", "verified_level": "", "level_reason": "", "infra_blessed": True}
    candidates = tuple(CandidateResult(figures=one, model_blessed=True, **empty) for one in figures[1:])
    return EvaluateResult(
        **{
            **dict.fromkeys(("target", "blessed", "infra_blessed", "model_blessed", "verified_level", "no_incumbent")),
            "reference": figures[0],
            "incumbent": None,
            "candidates": candidates,
            "chosen": labels[1],
            "name": "",
            "warnings": (),
            "report": {},
        }
    )


def test_the_recipe_is_done_once_for_each_block():
    base = np.full((3, 20), 4e6)
    base[:, 0] = 900e6  # the call that the recipe skips
    base[1] *= 2
    table = recipe_table(result_of("reference", "candidate"), {"reference": base, "candidate": base / 4})
    assert [row.cells[1:3] for row in table.rows] == [
        ["4.00 ms to 8.00 ms", "–"],
        ["1.00 ms to 2.00 ms", "2.00× to 8.00×"],
    ]
    assert re.search(r"each of the 3 blocks", table.note)
    assert recipe_table(result_of("reference", "candidate"), {"reference": base[:, :10], "candidate": base}) is None
