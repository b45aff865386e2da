"""The tail from import to promotion fits behind any TFX pipeline, and ours is made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import Examples, Model

from tpu2gpu.errors import UsageError
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.tfx.artifacts import Checkpoint
from tpu2gpu_pipelines import Settings, gpu_serving

TAXI = Path(__file__).resolve().parents[2] / "examples" / "taxi"
SETTINGS: dict[str, Any] = {
    "cast": {"to": "float16"},
    "evaluate": {"max_p99_ms": 15},
    "promotion_uri": "/models/promoted",
}


def tail(settings: Any = SETTINGS, **more: Any) -> dict[str, Any]:
    given = {"model": Channel(type=Model), "examples": Channel(type=Examples), **more}
    return {component.id: component for component in gpu_serving(settings=settings, **given)}


def test_the_steps_take_what_the_settings_say() -> None:
    found = tail(split="test")
    assert list(found) == [
        "CheckpointImporter",
        "PrecisionCaster",
        "Freezer",
        "TRTConverter",
        "LatencyEvaluator",
        "ModelPusher",
    ]
    assert json.loads(found["PrecisionCaster"].exec_properties["options"])["to"] == "float16"
    evaluator = found["LatencyEvaluator"].exec_properties
    assert json.loads(evaluator["options"])["max_p99_ms"] == 15
    assert (evaluator["split"], evaluator["promotion_uri"]) == ("test", "/models/promoted")
    assert found["ModelPusher"].exec_properties["promotion_uri"] == "/models/promoted"


def test_the_model_is_the_given_one_and_the_reference_is_what_was_imported_of_it() -> None:
    given = Channel(type=Model)
    found = tail(model=given)
    assert found["CheckpointImporter"].inputs["source_model"] is given
    imported = found["CheckpointImporter"].outputs["model"]
    assert found["LatencyEvaluator"].inputs["reference"] is imported
    assert "examples" not in found["TRTConverter"].inputs


def test_a_quantised_conversion_is_calibrated_on_the_examples() -> None:
    examples = Channel(type=Examples)
    found = tail({"convert": {"int8": True}}, examples=examples)
    assert found["TRTConverter"].inputs["examples"] is examples


def test_a_checkpoint_from_elsewhere_takes_the_models_place() -> None:
    checkpoint = Channel(type=Checkpoint)
    found = tail(model=None, checkpoint=checkpoint)
    assert found["CheckpointImporter"].inputs["checkpoint"] is checkpoint
    with pytest.raises(UsageError, match="either model or checkpoint, and both was given"):
        tail(checkpoint=checkpoint)
    with pytest.raises(UsageError, match="either model or checkpoint, and neither was given"):
        tail(model=None)


def test_settings_may_be_a_file_and_wrong_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text(json.dumps(SETTINGS))  # JSON is YAML
    for same in (path, str(path), Settings(promotion_uri="/models/promoted")):
        assert tail(same)["ModelPusher"].exec_properties["promotion_uri"] == "/models/promoted"
    with pytest.raises(UsageError, match="cats: no such key; did you mean 'cast'"):
        tail({"cats": {}})


@pytest.mark.slow
@pytest.mark.e2e
def test_a_table_goes_through_stock_components_and_the_tail_to_a_promoted_model(tmp_path: Path) -> None:
    """ExampleGen, Transform with a vocabulary and Trainer as TFX has them; run by the README's command."""
    command = ["run", "--pipeline", "taxi_pipeline:create_pipeline", "--settings", "taxi.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "tpu2gpu", *command, "--root", str(tmp_path), "--json"],
        check=False,
        capture_output=True,
        text=True,
        cwd=TAXI,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["blessed"] is True
    promoted = Path(result["promoted"])
    assert verify_model(promoted)["run"] == result["run"]
    parts = json.loads((promoted / "plan.json").read_text())["parts"]
    assert len(parts) > 1  # a vocabulary is looked up on the CPU, the network is in ONNX
