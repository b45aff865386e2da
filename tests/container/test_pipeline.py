"""The compiled pipeline from end to end in real containers, under KFP's own local runner.

The runner runs in a container of the same image, beside its steps: so it has the KFP that the lock says, and sees the
folders by the names by which the engine knows them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import docker
from tests.pipelines.kubeflow import native_pipeline
from tpu2gpu.storage.publishing import verify_model

SCRIPT = Path(__file__).with_name("run_pipeline.py")
SETTINGS: dict[str, dict[str, Any]] = {
    "training": {"steps": 60, "checkpoint_steps": 60},
    "evaluate": {"requests": 500, "max_examples": 50, "max_p99_ms": 5000},
}


@pytest.fixture(scope="module")
def root(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where the image's user may write, and whose content goes at the end whoever wrote it."""
    folder = tmp_path_factory.mktemp("containers")
    folder.parent.chmod(0o711)
    folder.chmod(0o777)
    yield folder
    docker(
        "run",
        "--rm",
        "--user=0",
        f"--volume={folder}:{folder}",
        image,
        "find",
        str(folder),
        "-mindepth",
        "1",
        "-delete",
    )


def run_pipeline(image: str, root: Path, name: str, settings: Mapping[str, Any]) -> tuple[Path, Path]:
    """Compiles and runs the pipeline; the folders of its steps' outputs and of promoted models."""
    promoted = root / f"{name}-promoted"
    kubeflow = {"platform": "local", "image": image, "pipeline_root": str(root)}
    settings_file, spec = root / f"{name}.json", root / f"{name}.yaml"  # JSON is YAML
    settings_file.write_text(
        json.dumps({**SETTINGS, "name": name, "promotion_uri": str(promoted), "kubeflow": kubeflow, **settings})
    )
    compiled = subprocess.run(
        [sys.executable, "-m", "tpu2gpu", "compile", "--settings", str(settings_file), "-o", str(spec)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    run_in_containers(image, root, spec)
    (outputs,) = root.glob(f"{name}-[0-9]*")
    return outputs, promoted


def run_in_containers(image: str, root: Path, spec: Path, *parameters: str) -> None:
    shared = [f"--volume={path}:{path}" for path in ("/var/run/docker.sock", str(root), str(SCRIPT))]
    docker("run", "--rm", "--user=0", *shared, image, "python", str(SCRIPT), str(spec), str(root), *parameters)


@pytest.fixture(scope="module")
def blessed(image: str, root: Path) -> tuple[Path, Path]:
    return run_pipeline(image, root, "blessed", {})


def test_a_blessed_model_is_pushed(blessed: tuple[Path, Path]) -> None:
    outputs, promoted = blessed
    assert promoted.is_dir(), [path.read_text() for path in outputs.glob("latency-evaluator/metrics")]
    manifest = verify_model(promoted / "model" / "1")
    assert {"plan.json", "model.onnx", "engines/model.engine"} <= {file["path"] for file in manifest["files"]}
    assert list(outputs.glob("**/BLESSED"))
    assert list(outputs.glob("**/INFRA_BLESSED"))


def test_the_report_is_a_single_page_and_metrics_are_tables(blessed: tuple[Path, Path]) -> None:
    outputs, _ = blessed
    (page,) = outputs.glob("*/report")
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    tables = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in outputs.glob("*/metrics")}
    assert tables.keys() == {"precision-caster", "trt-converter", "latency-evaluator"}
    assert all(tables.values())


def test_a_refused_model_is_not_pushed_and_the_run_ends_well(
    image: str, root: Path, blessed: tuple[Path, Path]
) -> None:
    """What the first run trained is given as a checkpoint from elsewhere, and no machine is as fast as asked."""
    (trained,) = blessed[0].glob("trainer*/**/Format-Serving")
    strict = {**SETTINGS["evaluate"], "max_p99_ms": 1e-6}
    outputs, promoted = run_pipeline(image, root, "refused", {"evaluate": strict, "checkpoint": str(trained)})
    assert not promoted.exists()
    assert list(outputs.glob("**/INFRA_NOT_BLESSED"))
    assert not list(outputs.glob("trainer*"))


def test_a_pipeline_of_kfps_sdk_alone_runs_with_the_same_image(
    image: str, root: Path, blessed: tuple[Path, Path]
) -> None:
    """Compiled in a process that cannot import TFX; its options and its source come with the run."""
    (trained,) = blessed[0].glob("trainer*/**/Format-Serving")
    spec, promoted = root / "native.yaml", root / "native-promoted"
    compiled = subprocess.run(
        [sys.executable, native_pipeline.__file__, str(spec), str(promoted), image],
        check=False,
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    run_in_containers(image, root, spec, f"trained={trained}", "to=float16")
    assert verify_model(promoted / "digits" / "1")["run"]
