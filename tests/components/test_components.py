"""Every component through TFX's own local runner: its artifacts, and what the stock Pusher makes of them.

One pipeline holds them all, twice where it forks: a strict evaluator refuses what a lenient one blesses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from tests.models.networks import convnet
from tests.models.predictions import images, predict
from tpu2gpu.errors import SignatureError, UsageError
from tpu2gpu.storage.publishing import read_manifest, verify_model
from tpu2gpu_pipelines.metadata_store import OutputRecord, StepRecord, read_run

RUN = "a run of the components"


def run_locally(components: list[Any], root: Path) -> None:
    """Runs components as any TFX pipeline does, but for the run's name, which is ours."""
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.pipeline import Pipeline
    from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter

    pipeline = Pipeline(
        pipeline_name="components",
        pipeline_root=str(root / "pipeline"),
        metadata_connection_config=sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
        components=components,
    )
    plan = compiler.Compiler().compile(pipeline)
    substitute_runtime_parameter(plan, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: RUN})
    LocalDagRunner().run_with_ir(plan)


def given_model(folder: Path) -> Any:
    """A node that hands out a SavedModel as a Model artifact."""
    from tfx.dsl.components.common.importer import Importer
    from tfx.types.standard_artifacts import Model

    return Importer(source_uri=str(folder), artifact_type=Model).with_id("GivenModel")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, built: Callable[..., Path]) -> dict[str, StepRecord]:
    """The steps of one run of everything, by id."""
    from tfx.components import Pusher
    from tfx.proto import pusher_pb2

    from tpu2gpu import (
        CastOptions,
        CheckpointImporter,
        ConvertOptions,
        EvaluateOptions,
        Freezer,
        LatencyEvaluator,
        PrecisionCaster,
        TRTConverter,
        Unfreezer,
    )
    from tpu2gpu_pipelines.examples import DigitExamples

    root = tmp_path_factory.mktemp("components")
    given = given_model(built(convnet, policy="mixed_bfloat16"))
    examples = DigitExamples()
    importer = CheckpointImporter(model=given.outputs["result"])
    caster = PrecisionCaster(importer.outputs["model"], CastOptions(to="float16"))
    caster = caster.with_beam_pipeline_args(["--runner=DirectRunner"])
    freezer = Freezer(caster.outputs["model"])
    unfreezer = Unfreezer(freezer.outputs["model"])
    converter = TRTConverter(
        freezer.outputs["model"], ConvertOptions(backend="onnx"), examples=examples.outputs["examples"]
    )
    nodes = [given, examples, importer, caster, freezer, unfreezer, converter]
    lenient = EvaluateOptions(requests=100, max_examples=50, label=None, min_top1_agreement=0.5)
    strict = attrs.evolve(lenient, max_requests=100, max_p99_ms=1e-6)
    for name, options in (("Lenient", lenient), ("Strict", strict)):
        evaluator = LatencyEvaluator(
            model=converter.outputs["model"],
            reference=importer.outputs["model"],
            examples=examples.outputs["examples"],
            promotion_uri=str(root / "nothing yet"),
            options=options,
        ).with_id(f"{name}Evaluator")
        if name == "Lenient":
            evaluator = evaluator.with_beam_pipeline_args(["--runner=DirectRunner"])
        destination = pusher_pb2.PushDestination.Filesystem(base_directory=str(root / name))
        pusher = Pusher(
            model=converter.outputs["model"],
            model_blessing=evaluator.outputs["model_blessing"],
            infra_blessing=evaluator.outputs["infra_blessing"],
            push_destination=pusher_pb2.PushDestination(filesystem=destination),
        ).with_id(f"{name}Pusher")
        nodes += [evaluator, pusher]
    run_locally(nodes, root)
    return {step.id: step for step in read_run(root / "metadata.sqlite", RUN)}


def output(steps: dict[str, StepRecord], step: str, key: str = "model") -> OutputRecord:
    (artifact,) = steps[step].outputs[key]
    return artifact


def model_of(steps: dict[str, StepRecord], step: str) -> Path:
    return Path(output(steps, step).uri) / "Format-Serving"


def test_every_step_was_executed(steps: dict[str, StepRecord]) -> None:
    assert {step.state for step in steps.values()} == {"COMPLETE"}
    assert len(steps) == 11


@pytest.mark.parametrize("step", ["CheckpointImporter", "PrecisionCaster", "Freezer", "Unfreezer", "TRTConverter"])
def test_a_model_is_a_standard_artifact_with_a_sound_manifest_that_names_the_run(
    steps: dict[str, StepRecord], step: str
) -> None:
    assert output(steps, step).type == "Model"
    manifest = verify_model(model_of(steps, step))
    assert manifest["run"] == RUN
    assert json.loads((model_of(steps, step) / "report.json").read_text())


def test_each_model_was_made_from_the_one_before(steps: dict[str, StepRecord]) -> None:
    chain = ["CheckpointImporter", "PrecisionCaster", "Freezer", "TRTConverter"]
    for before, after in pairwise(chain):
        source = read_manifest(model_of(steps, after))["source"]
        assert source["digest"] == read_manifest(model_of(steps, before))["digest"]


def test_all_savedmodels_of_the_way_answer_alike(steps: dict[str, StepRecord]) -> None:
    wanted = predict(model_of(steps, "CheckpointImporter"), image=images())
    for step in ("PrecisionCaster", "Freezer", "Unfreezer"):
        found = predict(model_of(steps, step), image=images())
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_allclose(found[name], values, atol=0.01 * np.abs(values).max())


def test_weights_are_cast_on_beam_where_the_pipeline_names_a_runner(steps: dict[str, StepRecord]) -> None:
    report = json.loads((model_of(steps, "PrecisionCaster") / "report.json").read_text())
    assert [set(it) for it in report["shards"]] == [{"file", "host", "process"}]


def test_the_converters_metrics_say_what_was_built_and_how_far_it_was_verified(steps: dict[str, StepRecord]) -> None:
    import onnxruntime

    properties = output(steps, "TRTConverter", "metrics").properties
    assert properties["backend"] == "onnx"
    assert properties["backend_version"] == onnxruntime.__version__
    assert (properties["dtype"], properties["verified_level"]) == ("float16", "onnx_cpu")
    plan = json.loads((model_of(steps, "TRTConverter") / "plan.json").read_text())
    assert plan["compared_on"] == "64 examples"


def test_metrics_are_flat_numbers_with_units_under_the_dashboards_title(steps: dict[str, StepRecord]) -> None:
    wanted = {
        "PrecisionCaster": {"size_bytes", "cast_size_bytes", "max_relative_error", "end_to_end_error"},
        "TRTConverter": {"relative_error"},
        "LenientEvaluator": {"reference_p50_ms", "candidate_p50_ms", "candidate_model_bytes", "blessed"},
    }
    for step, keys in wanted.items():
        metrics = output(steps, step, "metrics")
        assert metrics.type == "system.Metrics"
        assert keys <= metrics.properties.keys()
        written = json.loads((Path(metrics.uri) / "metrics.json").read_text())
        stored = {key: float(metrics.properties[key]) for key in written}
        assert stored == pytest.approx(written, rel=2e-3)  # the store rounds to six decimals


def test_the_report_is_one_html_file_with_its_twins_beside(steps: dict[str, StepRecord]) -> None:
    report = output(steps, "LenientEvaluator", "report")
    assert report.type == "system.HTML"
    page = (Path(report.uri) / "index.html").read_text()
    assert "BLESSED" in page
    assert {"report.json", "report.md", "verdict.json"} <= {path.name for path in Path(report.uri).iterdir()}


def test_beam_compares_the_answers_to_all_examples_where_the_pipeline_names_a_runner(
    steps: dict[str, StepRecord],
) -> None:
    compared = {}
    for name in ("Lenient", "Strict"):
        report = json.loads((Path(output(steps, f"{name}Evaluator", "report").uri) / "report.json").read_text())
        compared[name] = report["candidates"][0]["compared"]
    assert compared["Strict"] == 50  # --max-examples
    assert compared["Lenient"] > 300


@pytest.mark.parametrize(("name", "infra", "model"), [("Lenient", 1, 1), ("Strict", 0, 1)])
def test_each_verdict_is_published_in_the_form_of_the_stock_components(
    steps: dict[str, StepRecord], name: str, infra: int, model: int
) -> None:
    for key, kind, mark, expected in (
        ("infra_blessing", "InfraBlessing", "INFRA_", infra),
        ("model_blessing", "ModelBlessing", "", model),
    ):
        blessing = output(steps, f"{name}Evaluator", key)
        assert (blessing.type, blessing.properties["blessed"]) == (kind, expected)
        assert blessing.properties["current_model"] == output(steps, "TRTConverter").uri
        assert blessing.properties["candidate_digest"] == read_manifest(model_of(steps, "TRTConverter"))["digest"]
        assert blessing.properties["verified_level"] == "onnx_cpu"
        assert blessing.properties["hardware_fingerprint"]
        files = [path.name for path in Path(blessing.uri).iterdir()]
        assert files == [f"{mark}{'' if expected else 'NOT_'}BLESSED"]


def test_a_blessed_model_is_pushed_as_it_is(steps: dict[str, StepRecord]) -> None:
    pushed = output(steps, "LenientPusher", "pushed_model")
    assert pushed.properties["pushed"] == 1
    destination = Path(str(pushed.properties["pushed_destination"]))
    manifest = verify_model(destination)
    assert manifest["digest"] == read_manifest(model_of(steps, "TRTConverter"))["digest"]


def test_a_refused_model_is_not_pushed_and_the_reason_is_on_the_blessing(steps: dict[str, StepRecord]) -> None:
    pushed = output(steps, "StrictPusher", "pushed_model")
    assert pushed.properties["pushed"] == 0
    folder = Path(pushed.uri).parents[2].parent / "Strict"
    assert not folder.exists()
    reasons = str(output(steps, "StrictEvaluator", "infra_blessing").properties["reasons"])
    assert reasons.startswith("max_p99_ms: ")
    assert "100 of 100 requests took longer" in reasons


def test_a_checkpoint_artifact_is_a_source_too(tmp_path: Path, built: Callable[..., Path]) -> None:
    from tfx.dsl.components.common.importer import Importer

    from tpu2gpu import Checkpoint, CheckpointImporter

    given = Importer(source_uri=str(built(convnet)), artifact_type=Checkpoint).with_id("GivenCheckpoint")
    run_locally([given, CheckpointImporter(checkpoint=given.outputs["result"])], tmp_path)
    steps = {step.id: step for step in read_run(tmp_path / "metadata.sqlite", RUN)}
    verify_model(model_of(steps, "CheckpointImporter"))


def test_a_step_that_cannot_raises_its_own_error_and_leaves_no_output(
    tmp_path: Path, built: Callable[..., Path]
) -> None:
    from tpu2gpu import Freezer
    from tpu2gpu.freezer.options import FreezeOptions

    given, options = given_model(built(convnet)), FreezeOptions(signature=("no_such_signature",))
    with pytest.raises(SignatureError, match="no_such_signature"):
        run_locally([given, Freezer(given.outputs["result"], options)], tmp_path)
    (step,) = [step for step in read_run(tmp_path / "metadata.sqlite", RUN) if step.id == "Freezer"]
    assert (step.state, step.outputs) == ("FAILED", {})
    assert not list((tmp_path / "pipeline" / "Freezer").glob("model/*"))


def test_an_importer_takes_either_a_model_or_a_checkpoint(built: Callable[..., Path]) -> None:
    from tpu2gpu import CheckpointImporter

    given = given_model(built(convnet)).outputs["result"]
    with pytest.raises(UsageError, match="neither was given"):
        CheckpointImporter()
    with pytest.raises(UsageError, match="both was given"):
        CheckpointImporter(model=given, checkpoint=given)
