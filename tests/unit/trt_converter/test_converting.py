"""`convert_model`: a SavedModel becomes a folder that a server loads, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest

from tests.models.networks import convnet
from tpu2gpu.errors import (
    ManifestError,
    OutputExistsError,
    ParityRefusedError,
    SourceError,
    UsageError,
    WorkerError,
)
from tpu2gpu.hardware.cuda import Gpu
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.serving_plan import Engine
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult

Built = Callable[..., Path]
HOPPER, ADA = Gpu(0, "NVIDIA H200", "90", "12.9"), Gpu(0, "NVIDIA L4", "89", "12.9")


@pytest.fixture(scope="module")
def half(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConvertResult, list[str]]:
    """A float16 network, converted with the default options: its source, the result, what progress told."""
    told: list[str] = []
    source = built(convnet, policy="float16")
    target = tmp_path_factory.mktemp("converted") / "serving"
    return source, convert_model(source, target, run_name="run 7", progress=lambda what, *_: told.append(what)), told


@pytest.mark.engine
def test_the_folder_holds_what_the_plan_says(half: tuple[Path, ConvertResult, list[str]]) -> None:
    _, result, _ = half
    plan = json.loads((result.target / "plan.json").read_text())
    assert plan["backend"] == "tensorrt_rtx"
    assert plan["dtype"] == "float16"
    assert plan["verified_level"] in ("engine_built", "engine_executed")
    assert plan["engine_coverage"] == 1.0
    (part,) = plan["parts"]
    assert (result.target / part["engine"]).stat().st_size == result.engine_size_bytes > 0
    assert (result.target / part["onnx"]).stat().st_size == result.onnx_size_bytes > 0
    assert part["compute_capabilities"] == ["80", "86", "89", "120", "121"]
    assert 0 < plan["relative_error"] < plan["tolerance"] == 0.03
    manifest = verify_model(result.target)
    assert manifest["step"] == "convert"
    assert manifest["run"] == "run 7"


@pytest.mark.engine
def test_the_weights_are_float16_in_the_file(half: tuple[Path, ConvertResult, list[str]]) -> None:
    import onnx

    model = onnx.load(half[1].target / "model.onnx")
    sizes = [(weights.data_type, len(weights.raw_data)) for weights in model.graph.initializer]
    largest, _ = max(sizes, key=lambda size: size[1])
    assert largest == onnx.TensorProto.FLOAT16


@pytest.mark.engine
@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="the engine is executed where there is a GPU")  # noqa: PTH110
def test_the_report_begins_with_what_was_not_verified(half: tuple[Path, ConvertResult, list[str]]) -> None:
    _, result, _ = half
    text = (result.target / "report.json").read_text()
    assert "built but not executed" in text[:300]
    assert result.verified_level == "engine_built"
    assert "built but not executed" in (result.target / "README.md").read_text()[:300]


@pytest.mark.engine
def test_the_metrics_are_flat_numbers_with_their_units(half: tuple[Path, ConvertResult, list[str]]) -> None:
    _, result, told = half
    assert {
        "onnx_size_bytes",
        "engine_size_bytes",
        "build_s",
        "peak_rss_bytes",
        "relative_error",
    } <= result.metrics.keys()
    assert all(type(value) is float for value in result.metrics.values())
    assert result.metrics["peak_rss_bytes"] > 100 << 20
    assert told == [
        "converting to ONNX and comparing",
        "building the engine",
        "writing the serving folder",
        "done",
    ]
    json.dumps(attrs.asdict(result), default=str)


@pytest.mark.engine
def test_the_folder_loads_and_answers_as_the_source(half: tuple[Path, ConvertResult, list[str]]) -> None:
    source, result, _ = half
    feeds = {"image": np.random.default_rng(5).random((3, 8, 8, 1), np.float32)}
    model = load(result.target, threads=1)
    (parity,) = compare(open_runner(source).run(feeds), model.run(feeds)).values()
    assert parity.relative_error < 0.03
    described = model.describe()
    assert described["kind"] == "serving"
    assert described["runs"] in ("onnx", "engine")
    assert described["why"]
    model.close()


@pytest.mark.engine
def test_triton_is_told_of_the_model(half: tuple[Path, ConvertResult, list[str]]) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    _, result, _ = half
    home = result.target / "model_repository" / "model"
    config = text_format.Parse((home / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("model", "onnxruntime", 32)
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("image", [8, 8, 1])]
    assert (home / "1" / "model.onnx").read_bytes() == (result.target / "model.onnx").read_bytes()
    assert not list((result.target / "model_repository").rglob("*.engine"))


@pytest.mark.engine
def test_two_conversions_of_one_model_give_the_same_bytes(
    half: tuple[Path, ConvertResult, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, first, _ = half
    parent, _ = run_in_child("os:getppid", {}, name="child", environment=onnx.ENVIRONMENT, preload=onnx.PRELOAD)
    assert parent != os.getpid()  # the first was forked from a process that had imported TensorFlow
    monkeypatch.setattr(onnx, "PRELOAD", ())
    second = convert_model(source, tmp_path / "a folder of another name")
    for name in ("model.onnx", "engines/model.engine", "model_repository/model/config.pbtxt", "plan.json", "README.md"):
        assert (first.target / name).read_bytes() == (second.target / name).read_bytes(), name


@pytest.mark.engine
def test_a_changed_engine_is_not_loaded(
    half: tuple[Path, ConvertResult, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(half[1].target, tmp_path / "serving")
    with (tmp_path / "serving" / "engines" / "model.engine").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr("tpu2gpu.running.local.serving_runner.find_gpus", lambda: (ADA,))
    with pytest.raises(ManifestError, match=r"engines/model\.engine: \d+ bytes, the manifest says"):
        load(tmp_path / "serving")


@pytest.mark.engine
def test_a_gpu_that_the_engine_is_not_for_leaves_the_model_to_onnx_runtime(
    half: tuple[Path, ConvertResult, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpu2gpu.running.local.serving_runner.find_gpus", lambda: (HOPPER,))
    described = load(half[1].target).describe()
    assert described["runs"] == "onnx"
    assert described["why"].endswith("the NVIDIA H200 has 90")


def test_a_refusal_leaves_its_report_and_nothing_half_written(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ParityRefusedError, match="by more than 0 of the largest value"):
        convert_model(built(convnet), tmp_path / "serving", ConvertOptions(backend="onnx", tolerance=0))
    assert [path.name for path in tmp_path.iterdir()] == ["serving.report.json"]
    report = json.loads((tmp_path / "serving.report.json").read_text())
    assert report["refused"]["error"] == "ParityRefusedError"
    assert report["onnx"]["ops"]["Conv"] == 2


def test_a_time_limit_is_kept(built: Built, tmp_path: Path) -> None:
    endless = ConvertOptions(backend="onnx", timeout_s=1, profile=("image=1:500000:500000",))
    with pytest.raises(WorkerError, match="the conversion to ONNX: no answer within 1 s"):
        convert_model(built(convnet), tmp_path / "serving", endless)


def test_a_memory_limit_is_kept(built: Built, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"took \d+ MiB of memory, the limit is 40 MiB"):
        convert_model(built(convnet), tmp_path / "serving", ConvertOptions(backend="onnx", memory_limit_mib=40))


def test_a_source_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        convert_model(tmp_path / "nowhere", tmp_path / "serving")
    (tmp_path / "artifact" / "Format-Serving").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"saved_model.pb is missing"):
        convert_model(tmp_path / "artifact", tmp_path / "serving")
    (tmp_path / "artifact" / "Format-Serving" / "saved_model.pb").touch()
    with pytest.raises(SourceError, match=r"did you mean .*Format-Serving\?"):
        convert_model(tmp_path / "artifact", tmp_path / "serving")


def test_an_existing_target_is_not_touched(built: Built, tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "precious").touch()
    with pytest.raises(OutputExistsError, match="exists already"):
        convert_model(built(convnet), tmp_path / "serving")
    assert (tmp_path / "serving" / "precious").exists()


@pytest.mark.parametrize(
    ("built_for", "only", "reason"),
    [
        (("80", "89"), "", "the engine was built for compute capability 80, 89; the NVIDIA H200 has 90"),
        (("80+",), "", ""),
        (("90",), "NVIDIA H200", ""),
        (("90",), "NVIDIA H100 PCIe", "the engine was built for the NVIDIA H100 PCIe alone; this is a NVIDIA H200"),
        (("120+",), "", "the engine was built for compute capability 120+; the NVIDIA H200 has 90"),
    ],
)
def test_an_engine_runs_on_the_gpus_that_it_is_for(built_for: tuple[str, ...], only: str, reason: str) -> None:
    assert Engine(compute_capabilities=built_for, gpu=only).mismatch(HOPPER) == reason


@pytest.mark.engine
def test_the_cluster_is_told_of_the_model(half: tuple[Path, ConvertResult, list[str]]) -> None:
    import yaml

    service = yaml.safe_load((half[1].target / "kserve.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["modelFormat"] == {"name": "triton"}
    assert service["metadata"]["name"] == "model"


def test_the_cluster_follows_the_promotion_folder_by_a_file_that_stays(
    half: tuple[Path, ConvertResult, list[str]],
) -> None:
    import yaml

    model = yaml.safe_load((half[1].target / "kserve.yaml").read_text())["spec"]["predictor"]["model"]
    assert model["storageUri"] == "pvc://CLAIM/promoted"
    assert "--model-control-mode=poll" in model["args"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../model"}, "--name ../model"),
        ({"profile": ("x=1:2",)}, "--profile"),
        ({"feature": ("x",)}, "--feature x: must be INPUT=FEATURE"),
        ({"compute_capability": ("75", "80")}, "an engine of its own"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    built: Built, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        convert_model(built(convnet), tmp_path / "serving", ConvertOptions(**options))


def test_options_need_no_tensorflow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tpu2gpu.trt_converter.converting import ConvertOptions; ConvertOptions();"
        "print([name for name in ('numpy', 'tensorflow', 'onnx') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
