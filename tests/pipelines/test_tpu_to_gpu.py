"""The main job from end to end, on real data, with nothing left out: trained, converted, judged, promoted.

The command runs it, as a user does. Then the same settings run again, and the metadata store tells what was executed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.storage.promotion.promoting import promote_model
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict
from tpu2gpu.storage.publishing import read_manifest, verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu_pipelines.cli import describe_run
from tpu2gpu_pipelines.local import METADATA, run_pipeline
from tpu2gpu_pipelines.settings import Settings, make_settings

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

STEPS = [
    "DigitExamples",
    "Trainer",
    "CheckpointImporter",
    "PrecisionCaster",
    "Freezer",
    "TRTConverter",
    "LatencyEvaluator",
    "ModelPusher",
]
SPEEDUP = 1.2
SETTINGS = {
    "training": {"steps": 160, "batch_size": 32},  # CPUs without bfloat16 take half a second for each
    # On a busy machine the same network may be twice as slow from one process to the next.
    "evaluate": {"max_p99_ms": 250, "min_speedup": SPEEDUP, "max_latency_regression": 1.0},
}


def states_of(root: Path, run: str) -> dict[str, str]:
    """What ML Metadata holds of a run, asked without any of our code: 3 is COMPLETE, 5 is CACHED."""
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as proto

    config = proto.ConnectionConfig()
    config.sqlite.filename_uri = str(root / METADATA)
    store = MetadataStore(config)
    context = store.get_context_by_type_and_name("pipeline_run", run)
    states = {}
    for execution in store.get_executions_by_context(context.id):
        (node,) = [one.name for one in store.get_contexts_by_execution(execution.id) if one.type == "node"]
        states[node.rpartition(".")[2]] = int(execution.last_known_state)
    return states


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(root: Path) -> dict[str, Any]:
    """The first run, by the command."""
    settings = root.parent / "settings.json"  # JSON is YAML
    settings.write_text(json.dumps(SETTINGS))
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-m", "tpu2gpu", "run", "--settings", str(settings), "--root", str(root), "--json"],
        check=False,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()[1:]] == STEPS  # one quiet line a step
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def settings(root: Path) -> Settings:
    return attrs.evolve(make_settings(SETTINGS, "the test"), root=str(root))


def test_the_first_run_executes_every_step(root: Path, first: dict[str, Any]) -> None:
    assert states_of(root, first["run"]) == dict.fromkeys(STEPS, 3)


def test_training_reaches_97_percent_on_images_it_has_not_seen(first: dict[str, Any]) -> None:
    training = first["training"]
    assert training["held_out_accuracy"] >= 0.97
    assert training["policy"] == "mixed_bfloat16"
    assert training["parameters"] > 300_000


def test_training_leaves_a_tensorboard_log(root: Path, first: dict[str, Any]) -> None:
    assert list((root / "pipeline" / "Trainer" / "model_run").glob("*/train/events.out.tfevents.*"))


def test_the_promoted_model_is_the_whole_serving_folder_and_names_the_run(root: Path, first: dict[str, Any]) -> None:
    promoted = Path(first["promoted"])
    assert promoted == root / "promoted" / "model" / "1"
    manifest = verify_model(promoted)
    (converted,) = (root / "pipeline" / "TRTConverter" / "model").glob("*/Format-Serving")
    assert manifest["promoted_digest"] == read_manifest(converted)["digest"]
    assert manifest["run"] == first["run"]
    assert {"plan.json", "model.onnx", "engines/model.engine"} <= {file["path"] for file in manifest["files"]}
    assert (promoted / "engines" / "model.engine").stat().st_size > 1_000_000


def test_the_verdict_rests_on_a_thousand_requests_and_on_both_models_answers(first: dict[str, Any]) -> None:
    report = json.loads((Path(first["report"]).parent / "report.json").read_text())
    (candidate,) = report["candidates"]
    assert first["blessed"] is True
    assert candidate["figures"]["requests"] >= 1000
    assert {"p50", "p90", "p99"} <= candidate["figures"]["latency_ms"].keys()
    assert candidate["figures"]["accuracy"] >= 0.97
    assert report["reference"]["accuracy"] >= 0.97
    assert candidate["verified_level"] in ("engine_built", "engine_executed")


def test_the_run_ends_with_a_table(first: dict[str, Any]) -> None:
    titles, *rows = first["summary"]["rows"]
    assert titles == ["", "reference", "candidate"]
    assert {"accuracy", "relative error", "p50", "p99", "size"} <= {row[0] for row in rows}


def test_a_second_run_executes_nothing(root: Path, first: dict[str, Any], settings: Settings) -> None:
    before = sorted((root / "promoted").rglob("*"))
    again = run_pipeline(settings)
    assert states_of(root, again.run) == dict.fromkeys(STEPS, 5)
    assert all(step.cached for step in again.steps)
    assert (str(again.promoted), again.blessed, again.summary) == (first["promoted"], True, first["summary"])
    assert sorted((root / "promoted").rglob("*")) == before
    assert again.seconds < 15
    text = "\n".join(describe_run(again))
    assert "8 steps, 0 executed" in text
    assert "BLESSED" in text
    assert f"promoted model: {first['promoted']}" in text
    assert f"report:         {first['report']}" in text


def test_a_refused_candidate_is_not_promoted(root: Path, first: dict[str, Any], settings: Settings) -> None:
    before = sorted((root / "promoted").rglob("*"))
    strict = EvaluateOptions(requests=100, max_examples=50, max_p99_ms=1e-6)
    refused = run_pipeline(attrs.evolve(settings, evaluate=strict))
    states = states_of(root, refused.run)
    assert {step for step, state in states.items() if state == 3} == {"LatencyEvaluator", "ModelPusher"}
    assert (refused.blessed, refused.promoted) == (False, None)
    assert refused.reasons[0].startswith("max_p99_ms: ")
    assert sorted((root / "promoted").rglob("*")) == before


def test_the_second_night_is_promoted_too_by_its_speed_up_over_its_own_reference(
    root: Path, first: dict[str, Any], settings: Settings
) -> None:
    """It is as fast as what was promoted the night before: over that one it is no faster at all."""
    tonight = attrs.evolve(settings, cast=attrs.evolve(settings.cast, keep=("^digits/block5_conv2/",)))
    result = run_pipeline(tonight)
    assert result.blessed is True, result.reasons
    assert result.promoted == root / "promoted" / "model" / "2"
    assert result.report is not None
    evaluation = json.loads((result.report.parent / "report.json").read_text())
    assert evaluation["incumbent"]["name"] == "model version 1"
    assert evaluation["reference"]["name"] == "imported"
    (candidate,) = evaluation["candidates"]
    checks = {check["name"]: check for check in candidate["checks"]}
    assert checks["min_speedup"]["value"] >= SPEEDUP > 1 / (1 + candidate["regression"]["value"])
    assert {check["verdict"] for check in checks.values()} == {"pass"}


@pytest.mark.slow
def test_a_former_model_that_comes_again_is_judged_against_todays_incumbent_and_promoted_again(
    root: Path, first: dict[str, Any], settings: Settings
) -> None:
    result = run_pipeline(settings)
    assert {step.id for step in result.steps if not step.cached} == {"LatencyEvaluator", "ModelPusher"}
    assert result.promoted == root / "promoted" / "model" / "3"
    assert result.report is not None
    assert json.loads((result.report.parent / "report.json").read_text())["incumbent"]["name"] == "model version 2"
    assert all(step.cached for step in run_pipeline(settings).steps)


@pytest.mark.slow
def test_a_candidate_that_is_slower_than_what_is_promoted_is_refused(
    root: Path, first: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    """A network of one layer is served; it is less often right, and many times as fast."""
    served = tmp_path / "promoted"
    convert_model(one_layer(tmp_path / "one_layer"), tmp_path / "serving", ConvertOptions(backend="onnx"))
    digest = read_manifest(tmp_path / "serving")["digest"]
    verdict = EvaluationVerdict(infra_blessed=True, model_blessed=True, digest=digest, level="onnx_cpu")
    promote_model(tmp_path / "serving", served, verdict)
    before = sorted(served.rglob("*"))
    evaluate = EvaluateOptions(requests=100, max_examples=50, min_speedup=SPEEDUP)
    result = run_pipeline(attrs.evolve(settings, promotion_uri=str(served), evaluate=evaluate))
    assert (result.blessed, result.promoted) == (False, None)
    assert [reason.partition(":")[0] for reason in result.reasons] == ["max_latency_regression"]
    assert sorted(served.rglob("*")) == before


def one_layer(folder: Path) -> Path:
    """A SavedModel with the digits' signature: `image` [?, 8, 8, 1] -> `logits` [?, 10]."""
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(tf.random.stateless_normal((64, 10), (1, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")])
    def serve(image: Any) -> dict[str, Any]:
        return {"logits": tf.reshape(image, (-1, 64)) @ module.kernel}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder
