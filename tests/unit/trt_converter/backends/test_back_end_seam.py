"""A new back end is one class and one line of the registry: commands, doctor and README follow from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models.networks import convnet
from tpu2gpu.cli.main import main
from tpu2gpu.progress import Progress
from tpu2gpu.running.loading import load
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import Runner
from tpu2gpu.running.serving_plan import CORE, OnnxNames, Part, Plan
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.trt_converter.backend_registry import BACKENDS
from tpu2gpu.trt_converter.backends.base import Availability, BackEnd, Conversion
from tpu2gpu.trt_converter.feeds import feeds_for
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu.trt_converter.parity import check_parity, compare_models
from tpu2gpu.trt_converter.profiles import compared_sizes
from tpu2gpu.trt_converter.request import Request

Built = Callable[..., Path]


class Copy(BackEnd):
    """Serves the source as it is."""

    name, title = "copy", "Copy"
    heeds = frozenset({"tolerance"})

    def probe(self) -> Availability:
        return Availability(self.name, True, "7.0", "copies everywhere")

    def contradictions(self, options: ConvertOptions) -> list[str]:
        return ["--layout triton: a copy is no model for Triton"] if options.layout == "triton" else []

    def convert(self, request: Request, staging: Staging, progress: Progress) -> Conversion:
        shutil.copytree(request.source, staging.folder / "copy")
        source, copy = SavedModelRunner(request.source), self.runner(staging.folder / "copy")
        names = OnnxNames(*({spec.name: spec.name for spec in specs} for specs in (source.inputs, source.outputs)))
        both = {"inputs": names.inputs, "outputs": names.outputs}
        feeds, folder = feeds_for(source.inputs, sizes=[compared_sizes({})]), staging.folder / "references"
        folder.mkdir()
        found = compare_models(source, copy, both, feeds, folder)
        shutil.rmtree(folder)
        tolerance = request.tolerance("float32")
        core = Part(
            name=CORE,
            runs_on="cpu",
            saved_model="copy",
            inputs=source.inputs,
            outputs=source.outputs,
            onnx_names=names,
            ops={},
            in_tensorflow_because="it is a copy",
        )
        plan = Plan(
            signature=request.options.signature,
            inputs=source.inputs,
            outputs=source.outputs,
            output_tensors=names.outputs,
            backend=self.name,
            dtype="float32",
            verified_level="saved_model",
            parts=(core,),
            engine_coverage=0.0,
            tolerance=tolerance,
            relative_error=check_parity(found["parity"], tolerance, "the copy"),
            compared_on=found["compared_on"],
            versions={"tensorflow": "2.16"},
        )
        return Conversion(plan=plan, backend_version="7.0", saved_model=staging.folder / "copy")

    def runner(self, path: Path, *, signature: str = "serving_default") -> Runner:
        return SavedModelRunner(path, signature=signature)

    def verification(self, plan: Plan) -> str:
        return "The copy was executed in TensorFlow."

    def readme_rows(self, plan: Plan, folder: Path) -> list[str]:
        return ["| `copy/` | the source once more | TensorFlow |"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, Copy.name, f"{__name__}:Copy")


def test_a_new_back_end_converts_from_the_command_line(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, target = built(convnet), tmp_path / "serving"
    capfd.readouterr()  # what building the model printed
    assert main(["convert", str(source), str(target), "--backend", "copy", "--layout", "plain", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["backend"], result["backend_version"], result["relative_error"]) == ("copy", "7.0", 0)
    assert result["report"]["backends"] == [
        {"backend": "copy", "available": True, "version": "7.0", "reason": "copies everywhere"}
    ]
    readme = (target / "README.md").read_text()
    assert "| `copy/` | the source once more | TensorFlow |" in readme
    assert "The copy was executed in TensorFlow. Largest difference from the source: 0 of the largest value" in readme
    feeds = {"image": np.random.default_rng(3).random((2, 8, 8, 1), np.float32)}
    for name, output in load(target).run(feeds).items():
        np.testing.assert_array_equal(output, open_runner(source).run(feeds)[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--opset", "18"],
            "--opset: it means nothing for the back end copy, only for onnx, tensorrt_rtx and tensorrt",
        ),
        (["--layout", "triton"], "--layout triton: a copy is no model for Triton"),
    ],
)
def test_what_a_new_back_end_does_not_heed_is_refused(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    target = tmp_path / "serving"
    arguments = ["convert", str(built(convnet)), str(target), "--backend", "copy", "--layout", "plain", *options]
    assert main(arguments) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not target.exists()


def test_a_new_back_end_is_among_the_choices(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--help"]) == 0
    assert "{auto,onnx,tensorrt_rtx,tensorrt,tf_trt,copy}" in capfd.readouterr().out
    assert main(["convert", "source", "target", "--backend", "copi"]) == 2
    assert "did you mean 'copy'?" in capfd.readouterr().err


def test_the_doctor_asks_a_new_back_end(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    (line,) = (line for line in capfd.readouterr().out.splitlines() if line.startswith("copy"))
    assert line.split(maxsplit=3) == ["copy", "yes", "7.0", "copies everywhere"]
