"""The choice of a back end, and the refusal of options that mean nothing for it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tpu2gpu.errors import ConversionError, EnvironmentLacksError, UsageError
from tpu2gpu.hardware.cuda import Gpu, find_gpus
from tpu2gpu.trt_converter.backends.base import Availability
from tpu2gpu.trt_converter.backends.choice import choose_backend, probe
from tpu2gpu.trt_converter.backends.engine import EngineBackEnd, refuse_float64
from tpu2gpu.trt_converter.options import ConvertOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"triton_backend": "tensorrt"}, "an engine of TensorRT-RTX is never a model for Triton"),
        (
            {"triton_backend": "tensorrt", "backend": "onnx"},
            "loads engines of data-center TensorRT, and ONNX Runtime builds none",
        ),
        ({"nms": "engine"}, "TensorRT-RTX has no kernel of non-max suppression.*--backend onnx or tensorrt"),
        (
            {"timing_cache": "times"},
            "--timing-cache: it means nothing for the back end tensorrt_rtx, only for tensorrt",
        ),
        (
            {"hardware_compatibility": "ampere_plus"},
            "--hardware-compatibility: it means nothing for the back end tensorrt_rtx",
        ),
    ],
)
def test_options_of_another_builder_are_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], message: str
) -> None:
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.probe", lambda *_: BUILDERS)
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.find_gpus", tuple)
    with pytest.raises(UsageError, match=message) as caught:
        choose_backend(ConvertOptions(**options))
    assert caught.value.hint


def test_options_that_mean_nothing_without_another_are_refused_all_at_once() -> None:
    idle = {
        "compute_capability": ("89",),
        "tf_trt_precision": "float16",
        "minimum_segment_size": 9,
        "int8_examples": 8,
        "int8_per_channel": False,
        "int8_exclude": ("x",),
        "int8_method": "entropy",
    }
    with pytest.raises(UsageError) as caught:
        choose_backend(ConvertOptions(backend="onnx", **idle))
    said = {detail.partition(":")[0] for detail in caught.value.details}
    assert said == {"--" + name.replace("_", "-") for name in idle}
    defaults = {name: getattr(ConvertOptions(), name) for name in idle}  # as a component passes them
    assert not choose_backend(ConvertOptions(backend="onnx", **defaults)).backend.builds_engine
    choose_backend(ConvertOptions(backend="onnx", int8=True, examples=("x",), int8_exclude=("x",)))


def test_tf_trt_finds_its_ranges_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"tf_trt": Availability("tf_trt", True, "8.6", "here")}
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.probe", lambda *_: found)
    tf_trt = {"backend": "tf_trt", "layout": "plain", "int8": True, "examples": ("x",), "minimum_segment_size": 9}
    choose_backend(ConvertOptions(**tf_trt))
    with pytest.raises(UsageError, match="--int8-method: it means nothing for the back end tf_trt"):
        choose_backend(ConvertOptions(**tf_trt, int8_method="entropy"))


HOPPER, ADA = Gpu(0, "NVIDIA H200", "90", "12.9"), Gpu(0, "NVIDIA L4", "89", "12.9")
BUILDERS = {name: Availability(name, True, "1.0", "here") for name in ("tensorrt", "tensorrt_rtx")}


@pytest.mark.parametrize(
    ("gpu", "options", "expected"),
    [
        (HOPPER, {}, ("tensorrt", ("90",), "NVIDIA H200")),
        (ADA, {}, ("tensorrt_rtx", ("80", "86", "89", "120", "121"), "")),
        (ADA, {"backend": "tensorrt"}, ("tensorrt", ("89",), "NVIDIA L4")),
        (HOPPER, {"hardware_compatibility": "same_compute_capability"}, ("tensorrt", ("90",), "")),
        (HOPPER, {"hardware_compatibility": "ampere_plus", "triton_backend": "tensorrt"}, ("tensorrt", ("80+",), "")),
    ],
)
def test_the_builder_that_this_gpu_can_use_is_taken(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu, options: dict[str, object], expected: tuple[object, ...]
) -> None:
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.probe", lambda *_: BUILDERS)
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.find_gpus", lambda: (gpu,))
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.tensorrt.find_gpus", lambda: (gpu,))
    chosen = ConvertOptions(**options)
    backend = choose_backend(chosen).backend
    assert isinstance(backend, EngineBackEnd)
    assert (backend.name, *backend.targets(chosen)) == expected
    with pytest.raises(UsageError, match="--compute-capability: it means nothing for the back end tensorrt, only for"):
        choose_backend(ConvertOptions(backend="tensorrt", compute_capability=("89",)))


def test_what_data_center_tensorrt_lacks_here_is_said_all_at_once() -> None:
    found = probe()["tensorrt"]
    if find_spec("tensorrt") is None and not find_gpus():
        assert found.reason == "tensorrt is not installed; it builds on a GPU only, and there is none here"


def test_eight_bits_want_real_data() -> None:
    with pytest.raises(UsageError, match="--int8: ranges are measured on real data") as caught:
        choose_backend(ConvertOptions(int8=True))
    assert "--examples" in str(caught.value)


def test_a_back_end_that_is_not_here_says_why() -> None:
    for backend, availability in probe().items():
        if not availability.available:
            with pytest.raises(EnvironmentLacksError, match=f"the back end {backend} cannot be used here") as caught:
                choose_backend(ConvertOptions(backend=backend, layout="plain"))  # Triton takes no TF-TRT
            assert availability.reason in str(caught.value)


def test_auto_without_tensorrt_rtx_makes_onnx_alone_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "onnx": Availability("onnx", True, "1.23", "here"),
        "tensorrt_rtx": Availability("tensorrt_rtx", False, "", "its library is not installed"),
    }
    monkeypatch.setattr("tpu2gpu.trt_converter.backends.choice.probe", lambda *_: found)
    choice = choose_backend(ConvertOptions())
    assert choice.backend.name == "onnx"
    assert choice.why_no_engine == "TensorRT-RTX cannot be used here: its library is not installed"


def test_every_back_end_has_an_answer() -> None:
    found = probe()
    assert list(found) == ["onnx", "tensorrt_rtx", "tensorrt", "tf_trt"]
    assert found["onnx"].available
    assert all(availability.reason for availability in found.values())


@pytest.mark.parametrize(("dtype", "weights"), [("float64", "float32"), ("float32", "float64")])
def test_float64_is_no_engine(dtype: str, weights: str) -> None:
    found = {"inputs": [{"dtype": dtype}], "outputs": [], "weights_size_bytes": {weights: 8}}
    with pytest.raises(ConversionError, match="computes in float64"):
        refuse_float64(found)
