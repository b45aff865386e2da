"""ONNX -> TensorRT-RTX engine, without a GPU; and an engine on a GPU where there is one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tpu2gpu.errors import ConversionError, EnvironmentLacksError, SignatureError, SourceError
from tpu2gpu.hardware.cuda import Buffer, Driver, Event, Stream, find_gpus
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.local.engine_runner import fitting_profile
from tpu2gpu.storage.publishing import sha256_of
from tpu2gpu.trt_converter.backends import engine_build
from tpu2gpu.trt_converter.backends.tensorrt import TensorRt, load_timing_cache
from tpu2gpu.trt_converter.backends.tensorrt_rtx import COMPUTE_CAPABILITIES, TensorRtRtx

pytestmark = pytest.mark.engine
ENVIRONMENT, DATA_CENTER = TensorRtRtx.environment, TensorRt.environment
BUILD_ENGINE = "tpu2gpu.trt_converter.backends.engine_build:build_engine"
PROFILE = {"x": [[1, 4], [8, 4], [32, 4]]}


def onnx_file(path: Path, *nodes: Any, weights: np.ndarray | None = None, dtype: int = TensorProto.FLOAT) -> Path:
    x = helper.make_tensor_value_info("x", dtype, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [] if weights is None else [numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph(list(nodes), "g", [x], [y], constants)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def dense(path: Path) -> Path:
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return onnx_file(path, helper.make_node("MatMul", ["x", "w"], ["y"], name="dense/MatMul"), weights=weights)


def built(
    onnx: Path,
    engine: Path,
    capabilities: tuple[str, ...] = COMPUTE_CAPABILITIES,
    profiles: tuple[dict[str, Any], ...] = (PROFILE,),
) -> dict[str, Any]:
    arguments = {
        "onnx_path": str(onnx),
        "engine_path": str(engine),
        "backend": "tensorrt_rtx",
        "profiles": profiles,
        "compute_capabilities": list(capabilities),
    }
    found, _ = run_in_child(
        BUILD_ENGINE,
        arguments,
        name="TensorRT-RTX",
        environment=ENVIRONMENT,
    )
    return dict(found)


def test_an_engine_is_built_and_described(tmp_path: Path) -> None:
    found = built(dense(tmp_path / "m.onnx"), tmp_path / "m.engine")
    assert found["compute_capabilities"] == ["80", "86", "89", "120", "121"]
    assert found["inputs"] == [{"name": "x", "dtype": "float", "shape": [-1, 4]}]
    assert found["profiles"] == [PROFILE]
    assert found["size_bytes"] == (tmp_path / "m.engine").stat().st_size > 10_000
    assert found["sha256"] == sha256_of(tmp_path / "m.engine")
    assert found["build_s"] > 0
    assert (tmp_path / "m.engine").read_bytes()[:4] == b"\x76\x74\x72\x74"  # the magic number of an engine, "vtrt"


def test_the_same_file_gives_the_same_engine(tmp_path: Path) -> None:
    first = built(dense(tmp_path / "m.onnx"), tmp_path / "m.engine")
    second = built(tmp_path / "m.onnx", tmp_path / "an_engine_under_a_longer_name.engine")
    assert first["deterministic"], "this machine does not let a process disable ASLR"
    assert first["sha256"] == second["sha256"]


def test_what_the_parser_refuses_is_named_with_its_node(tmp_path: Path) -> None:
    onnx = onnx_file(tmp_path / "m.onnx", helper.make_node("Erfc", ["x"], ["y"], name="gelu/Erfc"))
    with pytest.raises(ConversionError, match="does not take the model") as caught:
        built(onnx, tmp_path / "m.engine")
    assert any(detail.startswith("Erfc gelu/Erfc: ") for detail in caught.value.details)
    assert "--backend onnx" in str(caught.value)
    assert not (tmp_path / "m.engine").exists()


def test_what_the_builder_refuses_comes_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="cannot build the engine") as caught:
        built(dense(tmp_path / "m.onnx"), tmp_path / "m.engine", ("75",))
    assert "FP32 GEMM is not supported" in str(caught.value)
    assert "dense/MatMul" in str(caught.value)


def test_strings_are_refused(tmp_path: Path) -> None:
    onnx = onnx_file(tmp_path / "m.onnx", helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.STRING)
    with pytest.raises(ConversionError, match="does not take the model"):
        built(onnx, tmp_path / "m.engine")


def test_a_compute_capability_that_the_library_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="does not know compute capability 90"):
        built(dense(tmp_path / "m.onnx"), tmp_path / "m.engine", ("80", "90"))


def test_several_profiles_are_in_one_engine(tmp_path: Path) -> None:
    large = {"x": [[64, 4], [128, 4], [256, 4]]}
    found = built(dense(tmp_path / "m.onnx"), tmp_path / "two.engine", profiles=(PROFILE, large))
    one = built(tmp_path / "m.onnx", tmp_path / "one.engine")
    assert found["profiles"] == [PROFILE, large]
    assert found["size_bytes"] > one["size_bytes"]


def adapted(**changes: Any) -> dict[str, Any]:
    """What the adapter for data-center TensorRT tells a real builder: TensorRT-RTX's, whose interface is the same.

    It runs in a process of its own, where Polygraphy takes these bindings for data-center TensorRT's.
    """
    arguments = {"profiles": [PROFILE], "hardware_compatibility": "none", "timing_cache": "", **changes}
    found, _ = run_in_child(
        "tests.models.rtx_as_tensorrt:configured", arguments, name="TensorRT", environment=DATA_CENTER
    )
    return dict(found)


def test_data_center_tensorrt_is_told_profiles_level_and_no_precision() -> None:
    found = adapted(profiles=[PROFILE, {"x": [[64, 4], [64, 4], [64, 4]]}], hardware_compatibility="ampere_plus")
    assert found["profiles"] == 2
    assert found["hardware_compatibility_level"] == "AMPERE_PLUS"
    assert found["num_compute_capabilities"] == 0  # what only TensorRT-RTX has is left alone
    assert found["flags"] == []  # not even TF32: precision is in the ONNX file
    assert adapted(hardware_compatibility="same_compute_capability")["hardware_compatibility_level"] == (
        "SAME_COMPUTE_CAPABILITY"
    )


def test_a_level_that_this_tensorrt_does_not_know_is_refused() -> None:
    with pytest.raises(EnvironmentLacksError, match="does not know the hardware compatibility blackwell_plus"):
        adapted(hardware_compatibility="blackwell_plus")


def test_a_timing_cache_is_begun_kept_and_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "caches" / "times.cache"
    assert adapted(timing_cache=str(path))["timing_cache_bytes"] == path.stat().st_size > 0
    assert adapted(timing_cache=str(path))["timing_cache_bytes"] == path.stat().st_size
    assert [file.name for file in path.parent.iterdir()] == ["times.cache"]


@pytest.mark.parametrize("cache", [None, "of another GPU"])
def test_a_file_that_is_no_timing_cache_of_this_gpu_is_refused(tmp_path: Path, cache: str | None) -> None:
    class Config:
        """As TensorRT documents it: None for what is no cache, False for one of another GPU or version."""

        def create_timing_cache(self, content: bytes) -> str | None:
            return cache

        def set_timing_cache(self, cache: str, *, ignore_mismatch: bool) -> bool:
            return ignore_mismatch

    (tmp_path / "times.cache").write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=r"times.cache: not a timing cache of this TensorRT and this GPU"):
        load_timing_cache(Config(), tmp_path / "times.cache")


def test_a_tensorrt_that_is_not_installed_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match=r"TensorRT cannot be used here \(No module named 'tensorrt'\)"):
        engine_build.build_engine(
            backend="tensorrt", onnx_path="", engine_path="", profiles=[PROFILE], compute_capabilities=["90"]
        )


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("tensorrt") is None, reason="data-center TensorRT is not installed")
def test_data_center_tensorrt_builds_a_plan_that_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    from tpu2gpu.hardware.tensorrt import DATA_CENTER as LIBRARY
    from tpu2gpu.running.local.engine_runner import EngineRunner
    from tpu2gpu.running.local.onnx_runner import OnnxRunner

    onnx = dense(tmp_path / "m.onnx")
    arguments = {
        "backend": "tensorrt",
        "onnx_path": str(onnx),
        "engine_path": str(tmp_path / "m.plan"),
        "profiles": [PROFILE, {"x": [[64, 4], [64, 4], [128, 4]]}],
        "compute_capabilities": [find_gpus()[0].compute_capability],
        "timing_cache": str(tmp_path / "times.cache"),
    }
    run_in_child(BUILD_ENGINE, arguments, name="TensorRT", environment=DATA_CENTER)
    assert (tmp_path / "times.cache").stat().st_size
    runner = EngineRunner(tmp_path / "m.plan", library=LIBRARY)
    for batch in (1, 8, 100, 3):
        feeds = {"x": np.random.default_rng(batch).random((batch, 4), np.float32)}
        np.testing.assert_allclose(runner.run(feeds)["y"], OnnxRunner(onnx).run(feeds)["y"], rtol=2e-3)
    with pytest.raises(SignatureError, match="shapes outside the engine's profile"):
        runner.run({"x": np.zeros((48, 4), np.float32)})
    runner.close()


def test_the_profile_that_takes_the_shapes_is_chosen() -> None:
    profiles = [{"x": ((1, 4), (32, 4)), "y": ((1,), (32,))}, {"x": ((16, 4), (64, 4)), "y": ((1,), (64,))}]
    assert fitting_profile(profiles, {"x": (8, 4), "y": (8,)}) == 0
    assert fitting_profile(profiles, {"x": (48, 4), "y": (48,)}) == 1
    assert fitting_profile(profiles, {"x": (20, 4), "y": (20,)}, current=1) == 1  # no change without need
    assert fitting_profile(profiles, {"x": (20, 4), "y": (20,)}) == 0
    assert fitting_profile(profiles, {"x": (48, 4), "y": (65,)}) is None
    assert fitting_profile(profiles, {"x": (8, 4, 1), "y": (8,)}) is None


@pytest.mark.gpu
def test_memory_on_the_gpu_gives_back_what_was_written() -> None:
    driver = Driver()
    driver.use(0)
    stream, buffer = Stream(driver), Buffer(driver)
    values = np.random.default_rng(1).random((1000, 7), np.float32)
    buffer.write(values, stream)
    back = np.empty_like(values)
    buffer.read(back, stream)
    stream.synchronize()
    np.testing.assert_array_equal(back, values)
    buffer.free()
    stream.free()


@pytest.mark.gpu
def test_an_engine_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    from tpu2gpu.running.local.engine_runner import EngineRunner
    from tpu2gpu.running.local.onnx_runner import OnnxRunner

    if find_gpus()[0].compute_capability not in COMPUTE_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX has no engines for compute capability {find_gpus()[0].compute_capability}")
    onnx = dense(tmp_path / "m.onnx")
    built(onnx, tmp_path / "m.engine")
    runner = EngineRunner(tmp_path / "m.engine")
    for batch in (1, 8, 32, 3):
        feeds = {"x": np.random.default_rng(batch).random((batch, 4), np.float32)}
        np.testing.assert_allclose(runner.run(feeds)["y"], OnnxRunner(onnx).run(feeds)["y"], rtol=2e-3)
    latency_breakdown_ms = runner.latency_breakdown_ms()
    assert set(latency_breakdown_ms) == {"copy_in", "compute", "copy_out"}
    assert all(part_ms > 0 for part_ms in latency_breakdown_ms.values())
    runner.close()


@pytest.mark.gpu
def test_events_tell_how_long_a_copy_took() -> None:
    driver = Driver()
    driver.use(0)
    stream, buffer, begin, end = Stream(driver), Buffer(driver), Event(driver), Event(driver)
    values = np.ones(32 << 20, np.float32)
    buffer.write(values, stream)  # the first copy also takes the memory
    begin.record(stream)
    buffer.write(values, stream)
    end.record(stream)
    stream.synchronize()
    assert 0.5 < end.ms_since(begin) < 1000  # 128 MiB
    for made in (begin, end, buffer, stream):
        made.free()


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpu2gpu.hardware.cuda._LIBRARY", "libcuda_of_nobody.so.1")
    find_gpus.cache_clear()
    assert find_gpus() == ()
    find_gpus.cache_clear()
