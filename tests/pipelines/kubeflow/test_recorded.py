"""Every step takes what the driver of a whole Kubeflow Pipelines 2.17 handed to it (recorded/)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kubeflow import pipelines_to_compile
from tests.pipelines.kubeflow.examples import golden_pipeline
from tests.pipelines.kubeflow.launcher import Launcher
from tests.pipelines.kubeflow.test_compiling import compiled_with
from tpu2gpu_pipelines.kubeflow.compiler.specification import INPUT_FLAG, steps_of
from tpu2gpu_pipelines.kubeflow.container import entrypoint, executor_input
from tpu2gpu_pipelines.kubeflow.container.executor_input import artifacts_of

RECORDED = Path(__file__).parent / "recorded"
NAMES = sorted(path.name.removeprefix("executor_input.").removesuffix(".json") for path in RECORDED.glob("*.json"))
LOGS = "executor-logs"


def recorded(name: str) -> dict[str, Any]:
    """What was recorded; the LatencyEvaluator of that time called the reference its baseline."""
    given: dict[str, Any] = json.loads((RECORDED / f"executor_input.{name}.json").read_text())
    artifacts = given["inputs"].get("artifacts", {})
    if "baseline" in artifacts:
        artifacts["reference"] = artifacts.pop("baseline")
    return given


def arguments(name: str, given: Mapping[str, Any]) -> list[str]:
    """What the container of a step is started with."""
    if name.endswith("pusher"):  # the recorded pipeline ended with TFX's own
        compiled = compiled_with(pipelines_to_compile.stock_pipeline)
    else:
        compiled = golden_pipeline("importing" if name == "checkpoint.checkpoint-importer" else "gke")
    steps = {step.name: step for step in steps_of(compiled.spec)}
    step = steps[name.rpartition(".")[2]]
    words = list(step.executor["container"]["args"])
    words[words.index(INPUT_FLAG) + 1] = json.dumps(given)
    return words


@pytest.mark.parametrize("name", NAMES)
def test_tfx_reads_what_is_its_own_and_the_rest_comes_back_untouched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFX's own entrypoint runs, up to the executor's work."""
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entrypoint

    seen: dict[str, Any] = {}

    class Executor:
        def __init__(self, context: Any = None) -> None:
            pass

        def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:  # noqa: N802 - TFX's name
            seen.update(inputs=inputs, outputs=outputs, properties=properties)
            for artifacts in outputs.values():
                artifacts[0].set_string_custom_property("done", "yes")

    monkeypatch.setattr(executor_input, "_MOUNTS", {"minio://": f"{tmp_path}/"})
    monkeypatch.setattr(tfx_entrypoint.import_utils, "import_class_by_path", _only_executors(Executor, tfx_entrypoint))
    given = recorded(name)
    untouched = given["outputs"]["artifacts"][LOGS]
    given["outputs"]["outputFile"] = f"{tmp_path}/output_metadata.json"

    written = entrypoint.run_step(arguments(name, given))

    assert LOGS not in seen["outputs"]
    assert written["artifacts"][LOGS] == untouched
    own = {key for key, _ in artifacts_of(given["outputs"])} - {LOGS}
    assert own == set(seen["outputs"])
    for key in own:
        (artifact,) = written["artifacts"][key]["artifacts"]
        assert artifact["uri"] == given["outputs"]["artifacts"][key]["artifacts"][0]["uri"]
        assert artifact["metadata"]["done"] == "yes"
    for key, artifact in artifacts_of(given["inputs"]):
        (read,) = seen["inputs"][key]
        assert read.uri == artifact["uri"].replace("minio://", f"{tmp_path}/")
        assert read.type_name != "Artifact"
    assert set(seen["properties"]) == set(given["inputs"]["parameterValues"]) - {"promotion_uri"} | (
        {"promotion_uri"} if "evaluator" in name else set()
    )


def _only_executors(executor: type, entry: Any) -> Any:
    find = entry.import_utils.import_class_by_path

    def import_class(path: str) -> Any:
        return executor if path.endswith("Executor") else find(path)

    return import_class


def test_the_simulated_driver_hands_over_what_the_recorded_one_did(tmp_path: Path) -> None:
    """Keys and their nesting are the same; only values differ."""
    launcher = Launcher(golden_pipeline("gke").spec, "minio://mlpipeline/v2", {"minio://": tmp_path})
    for step in launcher.spec["root"]["dag"]["tasks"].values():
        for source in step.get("inputs", {}).get("artifacts", {}).values():
            output = source["taskOutputArtifact"]
            launcher.made[output["producerTask"], output["outputArtifactKey"]] = {"uri": "minio://a/b", "metadata": {}}
    for name in ("trt-converter", "latency-evaluator", "precision-caster"):
        simulated, real = launcher.executor_input(launcher.step(name)), recorded(name)
        for side in ("inputs", "outputs"):
            ours = {key: set(artifact) - {"metadata"} for key, artifact in artifacts_of(simulated[side])}
            theirs = {key: set(artifact) - {"metadata"} for key, artifact in artifacts_of(real[side])}
            assert ours == theirs
        ours = {key: artifact["type"].get("schemaTitle") for key, artifact in artifacts_of(simulated["outputs"])}
        theirs = {key: artifact["type"].get("schemaTitle") for key, artifact in artifacts_of(real["outputs"])}
        assert ours == theirs
        assert all(
            artifact["type"] == {"instanceSchema": ""}
            for each in (simulated, real)
            for _, artifact in artifacts_of(each["inputs"])
        )


def test_unknown_titles_and_missing_ones_break_no_step() -> None:
    given = recorded("freezer")
    outputs = given["outputs"]["artifacts"]
    outputs["trace"] = {"artifacts": [{"name": "trace", "type": {"schemaTitle": "acme.Trace"}, "uri": "minio://a/t"}]}
    del outputs["model"]["artifacts"][0]["type"]
    given["inputs"]["artifacts"]["extra"] = {"artifacts": [{"uri": "minio://a/x", "type": {"schemaTitle": "acme.X"}}]}
    foreign = executor_input.set_apart(
        given, {"artifacts": {"source_model": {}}}, {"model": {"schemaTitle": "tfx.Model", "schemaVersion": "0.0.1"}}
    )
    assert sorted(foreign) == [LOGS, "trace"]
    assert foreign["trace"]["artifacts"][0]["uri"] == "minio://a/t"
    assert outputs["model"]["artifacts"][0]["type"]["schemaTitle"] == "tfx.Model"
    assert list(given["inputs"]["artifacts"]) == ["source_model"]


def test_the_readme_says_where_artifacts_lie() -> None:
    (form,) = re.findall(r"`PIPELINE_ROOT/(.*)`", Path("docs/kubeflow.md").read_text(encoding="utf-8"))
    kinds = {
        "PIPELINE": "digits",
        "RUN": "[0-9a-f-]{36}",
        "STEP": "trainer",
        "<uuid>": "[0-9a-f-]{36}",
        "ARTIFACT": "model",
    }
    pattern = "/".join(kinds[part] for part in form.split("/"))
    (model,) = recorded("trainer")["outputs"]["artifacts"]["model"]["artifacts"]
    assert re.fullmatch(f"minio://mlpipeline/v2/artifacts/{pattern}", model["uri"])
