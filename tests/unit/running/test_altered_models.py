"""What is loaded for running is what the manifest beside it lists; nothing else is, unless the user says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models.evaluation_models import onnx_model, saved_model, serving_folder
from tests.models.hostile import writes_a_file
from tpu2gpu import evaluate_model, load
from tpu2gpu.errors import ManifestError, SourceError, Tpu2GpuError, TrustRefusedError
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.storage.publishing import publish

FEEDS = {"x": np.zeros((1, 6), np.float32)}


def published(target: Path, write: Callable[[Path], object]) -> Path:
    with publish(target, about={"step": "import"}) as staging:
        write(staging.folder)
    return target


def altered_onnx(folder: Path) -> None:
    onnx_model(folder / "model.onnx", fault="noisy_weights")


def altered_plan(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    plan["output_tensors"] = {"scores": "doubled", "doubled": "scores"}
    (folder / "plan.json").write_text(json.dumps(plan))


def foreign_saved_model(folder: Path) -> None:
    saved_model(folder / "foreign")
    plan = json.loads((folder / "plan.json").read_text())
    plan["parts"][0] |= {"saved_model": "foreign", "onnx": None}
    (folder / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize("alter", [altered_onnx, altered_plan, foreign_saved_model])
def test_an_altered_serving_folder_is_loaded_only_where_the_user_says_so(
    alter: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = serving_folder(tmp_path / "serving", engine=False)
    load(folder).close()
    alter(folder)
    with pytest.raises(ManifestError, match="differs from its manifest"):
        load(folder)
    runner = load(folder, unverified=True)
    assert runner.describe()["unverified"]
    runner.close()


def test_a_foreign_saved_model_in_a_plan_is_reviewed_even_so(tmp_path: Path) -> None:
    folder = serving_folder(tmp_path / "serving", engine=False)
    foreign_saved_model(folder)
    writes_a_file(tmp_path / "hostile", str(tmp_path / "touched"))
    (tmp_path / "touched").unlink(missing_ok=True)
    (tmp_path / "hostile" / "saved_model.pb").replace(folder / "foreign" / "saved_model.pb")
    with pytest.raises(TrustRefusedError, match="WriteFile"):
        load(folder, unverified=True)
    assert not (tmp_path / "touched").exists()


def test_a_serving_folder_without_a_manifest_is_foreign(tmp_path: Path) -> None:
    folder = serving_folder(tmp_path / "serving", engine=False)
    (folder / "manifest.json").unlink()
    with pytest.raises(SourceError, match=r"no manifest\.json there"):
        load(folder)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "variables/more"])
def test_a_saved_model_with_a_manifest_is_digested_as_it_is_loaded(name: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", saved_model)
    load(folder).close()
    with (folder / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ManifestError, match=name.replace(".", r"\.")):
        load(folder)


def test_an_onnx_file_is_digested_where_a_manifest_lies_beside_it(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", lambda folder: onnx_model(folder / "model.onnx"))
    load(folder / "model.onnx").close()
    onnx_model(folder / "model.onnx", fault="noisy_weights")
    with pytest.raises(ManifestError, match=r"model\.onnx"):
        load(folder / "model.onnx")
    load(folder / "model.onnx", unverified=True).close()


def test_an_evaluation_takes_an_altered_model_only_where_the_user_says_so_and_says_it_too(tmp_path: Path) -> None:
    folder = serving_folder(tmp_path / "serving", engine=False)
    reference = onnx_model(tmp_path / "reference.onnx")
    altered_onnx(folder)
    options = {"synthetic": 8, "requests": 5, "max_requests": 5, "block_requests": 5, "warm_up_requests": 1}
    refused = evaluate_model(reference, [folder], [], tmp_path / "refused", EvaluateOptions(**options))
    assert "differs from its manifest" in str(refused.candidate.checks)
    told = evaluate_model(reference, [folder], [], tmp_path / "told", EvaluateOptions(**options, unverified=True))
    assert "differs from its manifest" not in str(told.candidate.checks)
    assert "Unverified: the candidate" in (tmp_path / "told" / "report.json").read_text()


def server_of(tmp_path: Path, model: Path) -> Path:
    """A server file whose command would leave a trace."""
    file = tmp_path / "server.yaml"
    command = f"sh -c 'touch {tmp_path}/started; exit 3'"
    file.write_text(f"address: triton+grpc://127.0.0.1:{{port}}/m\ncommand: {command}\nmodel: {model}\n")
    return file


def foreign_python(folder: Path) -> None:
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "1" / "model.py").write_text("raise SystemExit")


def configured_library(folder: Path) -> None:
    """Triton loads a library of any name."""
    (folder / "m").mkdir()
    (folder / "m" / "config.pbtxt").write_text('model_operations { op_library_filename: "weights.bin" }')


def graph_in_pieces(folder: Path) -> None:
    """TensorFlow's servers prefer pieces to the file beside them."""
    (folder / "saved_model.cpb").write_bytes(b"pieces")


@pytest.mark.parametrize(
    ("write", "trust"),
    [
        (foreign_python, "python"),
        (configured_library, "custom"),
        (graph_in_pieces, "custom"),
        (lambda folder: writes_a_file(folder / "m" / "1" / "model.savedmodel", str(folder / "touched")), "files"),
        (lambda folder: (folder / "model.plan").write_bytes(b"an engine"), "custom"),
    ],
)
def test_no_server_is_started_on_what_nobody_trusts(
    write: Callable[[Path], object], trust: str, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    write(tmp_path / "models")
    file = server_of(tmp_path, tmp_path / "models")
    with pytest.raises(TrustRefusedError, match=f"--trust {trust}"):
        load(file)
    assert not (tmp_path / "started").exists()
    with pytest.raises(Tpu2GpuError, match="ended with exit code 3"):
        load(file, trust=[trust])


def test_a_server_runs_the_python_of_a_manifest_and_none_that_was_altered(tmp_path: Path) -> None:
    folder = published(tmp_path / "serving", foreign_python)
    file = server_of(tmp_path, folder / "m")
    with pytest.raises(Tpu2GpuError, match="ended with exit code 3"):
        load(file)
    (folder / "m" / "1" / "model.py").write_text("raise SystemExit(1)")
    with pytest.raises(ManifestError, match=r"m/1/model\.py"):
        load(file)
    with pytest.raises(TrustRefusedError, match="--trust python"):
        load(file, unverified=True)
