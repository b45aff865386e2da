"""A component is one class: what it says of itself is all that TFX needs to run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from tfx.types.standard_artifacts import Model

from tests.components.test_components import RUN, given_model, model_of, output, run_locally
from tpu2gpu.errors import InputError
from tpu2gpu.options import option
from tpu2gpu.progress import Progress
from tpu2gpu.tfx.artifacts import Metrics
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu_pipelines.metadata_store import read_run


@attrs.frozen
class CopyOptions:
    name: str = option("copy.txt", "the file's name")


@attrs.frozen
class CopyResult:
    target: Path
    letters: int
    tool: str = "copier"


def copy_text(
    source: Path, target: Path, options: CopyOptions, *, force: bool, run_name: str, progress: Progress
) -> CopyResult:
    text = (source / "text.txt").read_text()
    if not text:
        raise InputError("nothing to copy")
    target.mkdir(parents=True)
    (target / options.name).write_text(f"{text} in {run_name}")
    progress("copied", 1, 1)
    return CopyResult(target, len(text))


class Copier(StepComponent):
    """Copies a text."""

    FUNCTION = copy_text
    OPTIONS = CopyOptions
    INPUTS = {"source_model": Model}
    OUTPUTS = {"model": Model, "metrics": Metrics}


def run_copier(root: Path, text: str, options: CopyOptions | None = None) -> dict[str, Any]:
    (root / "text.txt").write_text(text)
    given = given_model(root)
    run_locally([given, Copier(options, source_model=given.outputs["result"])], root / "run")
    return {step.id: step for step in read_run(root / "run" / "metadata.sqlite", RUN)}


def test_a_component_in_one_class_runs_its_function_and_publishes_its_figures(tmp_path: Path) -> None:
    steps = run_copier(tmp_path, "hello", CopyOptions(name="greeting.txt"))
    assert steps["Copier"].state == "COMPLETE"
    assert (model_of(steps, "Copier") / "greeting.txt").read_text() == f"hello in {RUN}"
    metrics = output(steps, "Copier", "metrics")
    assert (metrics.type, metrics.properties["letters"], metrics.properties["tool"]) == ("system.Metrics", 5, "copier")


def test_an_error_of_the_function_is_the_steps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to copy"):
        run_copier(tmp_path, "")


def test_the_digest_of_the_sources_is_a_parameter(tmp_path: Path) -> None:
    from tpu2gpu.sources.digest import source_digest

    copier = Copier(source_model=given_model(tmp_path).outputs["result"])
    assert copier.exec_properties == {"options": '{"name":"copy.txt"}', "source_sha256": source_digest(__name__)}
