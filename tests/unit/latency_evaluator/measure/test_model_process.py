"""Candidates as files: what a verdict is bound to, how large they are, and damaged ones, which are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.models.evaluation_models import onnx_model, saved_model, serving_folder, write_examples
from tpu2gpu.errors import SourceError
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.measure.model_process import ENVIRONMENT, ModelProcess
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.opening import slow_imports_of

DAMAGES = {
    "manifest": "manifest.json: not a manifest",
    "list": "manifest.json: not a manifest",
    "changed": "model.onnx: its bytes have changed",
    "parts": "plan.json: damaged",
}


def damaged(folder: Path, damage: str) -> Path:
    serving_folder(folder, engine=False)
    if damage == "manifest":
        (folder / "manifest.json").write_text("{}")
    if damage == "list":
        (folder / "manifest.json").write_text('{"files": [1], "digest": 2}')
    if damage == "changed":
        onnx_model(folder / "model.onnx", "noisy_weights")
    if damage == "parts":
        plan = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**plan, "parts": None}))
        (folder / "manifest.json").unlink()
    return folder


def process_of(path: Path) -> ModelProcess:
    return ModelProcess(path, "candidate", is_reference=False, timeout_s=600.0)


def external(path: Path, seed: int = 0) -> Path:
    """An ONNX file whose weights lie beside it, in model.onnx.data."""
    model = onnx.load(str(onnx_model(path)))
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            weights = np.random.default_rng(seed).normal(size=tensor.dims).astype(np.float32)
            tensor.raw_data = weights.tobytes()
    path.with_name(path.name + ".data").unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    return path


def test_a_damaged_candidate_is_refused_with_its_reason(tmp_path):
    candidates = [damaged(tmp_path / damage, damage) for damage in DAMAGES]
    reference, examples = onnx_model(tmp_path / "reference.onnx"), [write_examples(tmp_path / "eval.tfrecord")]
    options = EvaluateOptions(requests=20, max_requests=20, block_requests=5, warm_up_requests=5)
    result = evaluate_model(reference, candidates, examples, tmp_path / "out", options)
    for candidate, because in zip(result.candidates, DAMAGES.values(), strict=True):
        assert not candidate.blessed
        assert because in candidate.reasons[0]
    assert [one.figures.digest for one in result.candidates[:3]] == [None] * 3


def test_a_reference_that_is_not_what_its_manifest_says_raises(tmp_path):
    folder = damaged(tmp_path / "reference", "changed")
    reference = ModelProcess(folder, "reference", is_reference=True, timeout_s=60.0)
    with pytest.raises(SourceError, match="the reference failed while its files were checked") as caught:
        reference.load("serving_default", 1, [0])
    assert caught.value.details == ("model.onnx: its bytes have changed",)


def test_weights_beside_an_onnx_file_count_in_its_digest_and_its_size(tmp_path):
    path = external(tmp_path / "model.onnx")
    size = path.stat().st_size + (tmp_path / "model.onnx.data").stat().st_size
    first = process_of(path)
    assert first.model_bytes() == first.folder_bytes() == size
    model, digest = path.read_bytes(), first.digest()
    external(path, seed=1)
    assert path.read_bytes() == model
    assert process_of(path).digest() != digest


def test_the_size_of_a_serving_folder_is_that_of_all_parts_that_are_run(tmp_path):
    folder = serving_folder(tmp_path / "serving", engine=False)
    external(folder / "model.onnx")
    saved_model(folder / "parts" / "pre")
    plan = json.loads((folder / "plan.json").read_text())
    pre = {**plan["parts"][0], "name": "pre", "onnx": None, "saved_model": "parts/pre"}
    (folder / "plan.json").write_text(json.dumps({**plan, "parts": [pre, *plan["parts"]]}))
    of_pre = sum(file.stat().st_size for file in (folder / "parts").rglob("*") if file.is_file())
    core = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert process_of(folder).model_bytes() == core + of_pre


def test_the_time_to_load_holds_the_librarys_import_though_a_fork_server_did_it(tmp_path):
    model = process_of(saved_model(tmp_path / "model"))
    model.load("serving_default", 1, [min(os.sched_getaffinity(0))])
    import_s, _ = run_in_child(
        "tpu2gpu.process.child:preload_s", {}, name="other", environment=ENVIRONMENT, preload=["tensorflow"]
    )
    assert 0 < import_s < model.description["load_s"]
    model.close()


def test_a_library_that_takes_seconds_to_import_is_known_before_a_model_is_opened(tmp_path):
    folder = serving_folder(tmp_path / "serving", engine=False)
    for light in (folder, onnx_model(tmp_path / "model.onnx"), "triton+grpc://localhost:8001/model"):
        assert slow_imports_of(light) == ()
    assert slow_imports_of(saved_model(folder / "model")) == ("tensorflow",)
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "parts": [{**plan["parts"][0], "saved_model": "model"}]}))
    assert slow_imports_of(folder) == ("tensorflow",)
