"""The detector from end to end: JPEG bytes in, boxes out, trained, converted in parts, judged by boxes, promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpu2gpu.running.serving_plan import read_plan
from tpu2gpu_pipelines.detector import create_pipeline
from tpu2gpu_pipelines.local import run_pipeline
from tpu2gpu_pipelines.named_pipelines import settings_of
from tpu2gpu_pipelines.settings import make_settings

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(3600)]

SETTINGS = {
    "training": {"steps": 500},
    "scenes": {"train_scenes": 1200, "eval_scenes": 60},
    "evaluate": {"requests": 100, "min_mean_average_precision": 0.1},
}


def test_the_detector_is_trained_converted_in_parts_judged_by_its_boxes_and_promoted(tmp_path: Path) -> None:
    settings = make_settings({**SETTINGS, "root": str(tmp_path)}, "the test", default=settings_of("detector"))
    result = run_pipeline(settings, create_pipeline)
    assert result.blessed, result.reasons
    assert result.training["held_out_mean_average_precision"] > 0.1
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["core_share_of_flops"] > 0.99
    assert metrics["box_iou"] > 0.95
    assert metrics["candidate_mean_average_precision"] > metrics["reference_mean_average_precision"] - 0.01
    plan = read_plan(Path(str(result.promoted)))
    assert [part.name for part in plan.parts] == ["pre", "core", "post"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 8
